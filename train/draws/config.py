"""The options of the augmentation; the defaults are the recipe ``aligned-iclr25``.

This file imports nothing heavy, so that ``--help`` answers at once.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, not_negative
from recon.base.paths import named_yaml

if TYPE_CHECKING:
    from train.chains.chain import Chain

RECIPES = Path(__file__).parents[2] / "configs" / "augment"
"""Folder of the recipes; each is a YAML file."""
Resampler = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
JPEG_GRID = 16
"""Side in pixels of a coding unit of 4:2:0 JPEG: four luma blocks, and one block of each chroma."""
JPEG_REACH = 2
"""Pixels around the crop on which its chroma depends: one chroma sample, because of the upsampling."""

_MIXED_TWICE = 0.04
"""Least weight of a fake that draws both mixtures: that of Dual Data Alignment, .2 times .2."""

PROBABILITIES = (
    "pre_crop_p",
    "resized_crop_p",
    "flip_p",
    "jitter_p",
    "grey_p",
    "cutout_p",
    "noise_p",
    "blur_p",
    "jpeg_p",
    "webp_p",
    "sharpen_p",
    "mix_p",
    "frequency_mix_p",
)
_GEOMETRIC = ("pre_crop_p", "resized_crop_p", "flip_p")
PHOTOMETRIC = tuple(name for name in PROBABILITIES if name not in _GEOMETRIC)
BOUNDS: dict[str, tuple[float, float]] = {
    "resized_crop_side": (1, 4096),
    "resized_crop_ratio": (0.01, 1),
    "brightness": (0, 10),
    "contrast": (0, 10),
    "saturation": (0, 10),
    "hue": (0, 0.5),
    "cutout_fill": (0, 255),
    "noise_variance": (0, 255**2),
    "blur_sigma": (0, 25),
    "jpeg_quality": (1, 100),
    "webp_quality": (1, 100),
    "sharpen": (0, 10),
    "mix_fake": (0, 1),
    "frequency_mix_fake": (0, 1),
}
"""Smallest and largest value of the fields that are neither probabilities nor sides."""


def blur_radius(sigma: float) -> int:
    """Radius of a blur in pixels: int(4 sigma + .5), as in scipy."""
    return int(4.0 * sigma + 0.5)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """The augmentation of a training pair: its two images always get the same parameters."""

    crop: int = 96
    """Side of the square training crop in pixels."""
    views: int = 1
    """Crops that are cut of a pair at each visit, each with draws of its own; the pair is decoded once."""
    random_crop: bool = True
    """true: the crop lies anywhere; false: in the centre."""
    pad: bool = True
    """Images smaller than the crop: true mirrors them at their borders, false refuses them."""
    degrade: list[dict[str, Any]] = field(default_factory=list)
    """Chains of degradations, each with its probability, of which at most one happens to a pair, before all
    else: '[{"p": 0.2, "chain": [{"jpeg": {"quality": {"from": 30, "to": 95}}}]}]'; see the README. An image
    that becomes smaller than the crop is mirrored, whatever `pad` says."""
    degrade_side: int = 512
    """Largest side in pixels of the part of an image that is degraded, cut at a drawn place; 0: the whole
    image. Of images that no chain happens to, nothing is cut."""
    pre_crop_p: float = 0.0
    """Probability of a crop at a drawn place before the resized crop."""
    pre_crop_side: int = 256
    """Side in pixels of that crop."""
    resized_crop_p: float = 0.2
    """Probability of a random resized crop (a part of .08..1 of the area) to a square before the crop."""
    resized_crop_side: tuple[int, int] = (256, 256)
    """The side in pixels of that square is a uniform integer in this range, both ends included."""
    resized_crop_ratio: float = 0.75
    """The part's width by its height is x .. 1/x, uniform in its logarithm, where x is this option."""
    resized_crop_resampler: Resampler = "bilinear"
    """Pillow's filter."""
    rotate: bool = True
    """Rotate by 0, 90, 180 or 270 degrees, each with probability 1/4."""
    flip_p: float = 0.5
    """Probability of a horizontal flip."""
    jitter_p: float = 0.8
    """Probability of colour jitter: brightness, contrast, saturation, hue, in an order drawn by pair."""
    brightness: float = 0.4
    """Jitter's brightness factor is uniform in max(0, 1 - x) .. 1 + x, where x is this option."""
    contrast: float = 0.4
    """Jitter's contrast factor is uniform in max(0, 1 - x) .. 1 + x, where x is this option."""
    saturation: float = 0.4
    """Jitter's saturation factor is uniform in max(0, 1 - x) .. 1 + x, where x is this option."""
    hue: float = 0.1
    """Jitter turns the hue by a uniform number in -x .. x, where x is this option; 0.5 is half a turn."""
    grey_p: float = 0.2
    """Probability of greyscale: ITU-R 601 luma in all three channels."""
    cutout_p: float = 0.2
    """Probability of one square hole with its centre anywhere in the image."""
    cutout_side: int = 48
    """Side of the hole in pixels."""
    cutout_fill: int = 128
    """Level of the hole, 0..255."""
    noise_p: float = 0.2
    """Probability of Gaussian noise, the same noise in both images."""
    noise_variance: tuple[float, float] = (10.0, 50.0)
    """The variance of the noise, in squared levels of 0..255, is uniform in this range."""
    blur_p: float = 0.5
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.0, 3.0)
    """The sigma of the blur in pixels is uniform in this range."""
    jpeg_p: float = 0.5
    """Probability of JPEG compression, 4:2:0, as by libjpeg-turbo."""
    jpeg_quality: tuple[int, int] = (30, 100)
    """The quality of JPEG is a uniform integer in this range, both ends included."""
    webp_p: float = 0.0
    """Probability of lossy WebP compression, always on the CPU. It compresses the window's core, not the
    whole image, which would give other pixels: WebP predicts each block from its neighbours."""
    webp_quality: tuple[int, int] = (30, 100)
    """The quality of WebP is a uniform integer in this range, both ends included."""
    sharpen_p: float = 0.0
    """Probability of sharpening."""
    sharpen: tuple[float, float] = (0.0, 1.0)
    """The amount a of sharpening is uniform in this range: Pillow's ImageEnhance.Sharpness, factor 1 + a."""
    mix_p: float = 0.0
    """Probability that the fake becomes w fake + (1 - w) real."""
    mix_fake: tuple[float, float] = (0.2, 1.0)
    """The fake's weight w is uniform in this range, .05 or more: at 0 the fake would equal the real image."""
    frequency_mix_p: float = 0.0
    """Probability of a second mixture, of the two images' spectra. With one weight for all frequencies, as
    the authors of Dual Data Alignment have it, that is a mixture of pixels; of a pair that draws both, the
    weights multiply."""
    frequency_mix_fake: tuple[float, float] = (0.2, 1.0)
    """The fake's weight is uniform in this range, .05 or more."""
    kornia: list[dict[str, Any]] = field(default_factory=list)
    """Kornia's own ops after the crop, on floats in 0..1, in order: '[{"name": "RandomErasing", "p": 0.1}]'.
    They are seeded by (seed, step, rank), so unlike all other ops they depend on the world size."""

    def __post_init__(self) -> None:
        at_least_one(self, "crop", "views", "cutout_side", "pre_crop_side", group="augment.")
        not_negative(self, "degrade_side", group="augment.")
        for name in PROBABILITIES:
            self._check(name, 0 <= getattr(self, name) <= 1, "a probability in [0, 1]")
        for name in BOUNDS:
            self._check_bounds(name)
        for place, op in enumerate(self.kornia):
            if not isinstance(op.get("name"), str):
                raise UserError(f"augment.kornia[{place}]={op}, expected {{name: RandomX, ...}}")
        # A smaller weight would label an image as fake that has next to no trace of the decoder.
        for name in ("mix_fake", "frequency_mix_fake"):
            low = getattr(self, name)[0]
            self._check(name, low >= 0.05, "a low of 0.05 or more: at 0 the fake is real")
        low = self.mix_fake[0] * self.frequency_mix_fake[0]
        if self.mix_p and self.frequency_mix_p and low < _MIXED_TWICE:
            raise UserError(
                f"augment.mix_fake and augment.frequency_mix_fake leave as little as {low:g} of a fake that "
                f"is mixed twice, expected {_MIXED_TWICE} or more; raise their lows"
            )
        for name in ("jpeg_quality", "webp_quality", "resized_crop_side"):
            whole = all(isinstance(end, int) for end in getattr(self, name))
            self._check(name, whole, "whole numbers")
        if self.resized_crop_p and self.crop > self.resized_crop_side[0]:
            raise UserError(
                f"augment.crop={self.crop} exceeds the resized crop's {self.resized_crop_side[0]}; "
                "set resized_crop_p to 0"
            )
        for place, chain in enumerate(self.chains):  # a wrong one is refused here
            if chain.view is not None and chain.view > self.views:
                given = f"augment.degrade[{place}] is for view {chain.view}, and augment.views={self.views}"
                raise UserError(f"{given}; raise views, or leave the chain out")

    def _check_bounds(self, name: str) -> None:
        value, (least, most) = getattr(self, name), BOUNDS[name]
        if isinstance(getattr(AugmentConfig, name), tuple):
            is_range = isinstance(value, tuple | list) and len(value) == 2
            ordered = is_range and least <= value[0] <= value[1] <= most
            self._check(name, ordered, f"a range (low, high) with {least} <= low <= high <= {most}")
        else:
            self._check(name, least <= value <= most, f"{least} to {most}")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UserError(f"augment.{name}={getattr(self, name)}, expected {expected}")

    @cached_property
    def chains(self) -> "tuple[Chain, ...]":
        """The chains of `degrade`, checked."""
        if not self.degrade:
            return ()
        from train.chains.chain import parse_chains  # imports Pillow, which --help does without

        return parse_chains(self.degrade, "augment.degrade")

    @property
    def is_photometric(self) -> bool:
        """Whether any op other than the geometry has a probability above 0."""
        return any(getattr(self, name) > 0 for name in PHOTOMETRIC)

    @property
    def blur_radius(self) -> int:
        """Radius in pixels of the widest possible blur."""
        return blur_radius(self.blur_sigma[1]) if self.blur_p else 0

    @property
    def core_side(self) -> int:
        """Side of the region that is compressed: it lies on JPEG's grid and holds the crop at any place."""
        if not (self.jpeg_p or self.webp_p):
            return self.crop
        # The crop may begin at any pixel of a grid cell, so up to JPEG_GRID - 1 pixels come before it.
        return JPEG_GRID * math.ceil((self.crop + 2 * JPEG_REACH + JPEG_GRID - 1) / JPEG_GRID)

    @property
    def window_side(self) -> int:
        """Side of the window that is cut from an image: the core, and the border that the blur needs."""
        return self.core_side + 2 * self.blur_radius


def load_recipe(recipe: str) -> AugmentConfig:
    """Loads a recipe by its name or file, for code that builds a loader; commands take ``--augment``.

    Args:
        recipe: the name of a file in `RECIPES` without ``.yaml``, or the path of a YAML file.

    Raises:
        UserError: there is no such recipe or file, or it holds wrong values.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    path = named_yaml(RECIPES, recipe, "augment")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AugmentConfig, as_group=False)
    try:
        parsed = parser.instantiate(parser.parse_path(path))
    except ArgumentError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    return AugmentConfig(**vars(parsed))
