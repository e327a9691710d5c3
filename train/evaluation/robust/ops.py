"""The operations of a robustness grid, on whole images: what a cell's chain is made of.

All of them are exact: compression and resizing are Pillow's, blur is scipy's, noise is that of training. What
is drawn for an image is a function of its name and of what it is drawn for, so it is the same in any order
and on any rank.

Pixels are (H, W, 3) uint8.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels, recompress
from recon.image.drawing import RESAMPLERS, resize

ANY = "any"
"""A choice that is drawn for each image."""
_SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")


@dataclass(frozen=True, kw_only=True)
class Number:
    """A parameter that is a number."""

    low: float
    high: float
    whole: bool = False
    """Whether only whole numbers will do."""
    default: float | None = None
    """None: it must be given."""

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return f"a {'whole ' if self.whole else ''}number {self.low:g} to {self.high:g}"

    def takes(self, value: object) -> bool:
        """Whether the value will do."""
        is_number = isinstance(value, int) or (isinstance(value, float) and not self.whole)
        return is_number and not isinstance(value, bool) and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A parameter that is one of some words."""

    words: tuple[str, ...]
    default: str | None = None
    """None: it must be given."""

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return f"one of {', '.join(map(repr, self.words))}, or 'any', which draws one for each image"

    def takes(self, value: object) -> bool:
        """Whether the value will do."""
        return value == ANY or value in self.words


@dataclass(frozen=True, kw_only=True)
class Between:
    """A number that is drawn for each image, uniform from `low` to `high`; a whole number may be both."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"U({self.low:g}, {self.high:g})"


Parameter = Number | Choice
Value = float | str | Between


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an operation knows of its image beside the pixels."""

    key: str
    """Tells the image and the operation's place in the grid, for what is drawn."""
    max_pixels: int
    """Results of more pixels are refused."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """An operation."""

    run: Callable[..., Pixels]
    """Takes the pixels, `Seen`, and the parameters by name."""
    parameters: Mapping[str, Parameter]


def drawn(value: Value, parameter: Parameter, key: str) -> float | str:
    """The value of a parameter for one image.

    Args:
        value: as the grid gives it.
        parameter: whose value it is.
        key: tells the image and what is drawn.
    """
    if isinstance(value, Between):
        share = (_word(key) >> 11) * 2.0**-53
        if isinstance(parameter, Number) and parameter.whole:
            return int(value.low) + int(share * (int(value.high) - int(value.low) + 1))
        return value.low + share * (value.high - value.low)
    if isinstance(parameter, Choice) and value == ANY:
        return parameter.words[_word(key) % len(parameter.words)]
    return value


def _word(key: str) -> int:
    """64 random bits; names of files that are not UTF-8 have their bytes in the key."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _jpeg(pixels: Pixels, _: Seen, *, quality: int, subsampling: str) -> Pixels:
    return recompress(pixels, "jpeg", quality, subsampling=subsampling)


def _webp(pixels: Pixels, _: Seen, *, quality: int) -> Pixels:
    return recompress(pixels, "webp", quality)


def _avif(pixels: Pixels, _: Seen, *, quality: int, subsampling: str, speed: int) -> Pixels:
    return recompress(pixels, "avif", quality, subsampling=subsampling, speed=speed)


def _resize(pixels: Pixels, seen: Seen, *, factor: float, resampler: str) -> Pixels:
    height, width = (max(1, int(side * factor + 0.5)) for side in pixels.shape[:2])
    return _resized(pixels, seen, height, width, resampler)


def _square(pixels: Pixels, seen: Seen, *, side: int, resampler: str) -> Pixels:
    return _resized(pixels, seen, side, side, resampler)


def _resized(pixels: Pixels, seen: Seen, height: int, width: int, resampler: str) -> Pixels:
    if height * width > seen.max_pixels:
        raise RejectedImageError(f"{width}x{height} exceeds max_pixels={seen.max_pixels}; raise --max_pixels")
    return resize(pixels, height, width, resampler)


def _crop(pixels: Pixels, _: Seen, *, keep: float) -> Pixels:
    sizes = [max(1, int(side * keep + 0.5)) for side in pixels.shape[:2]]
    top, left = ((side - size) // 2 for side, size in zip(pixels.shape[:2], sizes, strict=True))
    return np.ascontiguousarray(pixels[top : top + sizes[0], left : left + sizes[1]])


def _blur(pixels: Pixels, _: Seen, *, sigma: float) -> Pixels:
    import torch  # the grid is read before torch is imported, so that a mistake in it shows at once

    from train.draws.config import blur_radius
    from train.ops.blur import blur_loop

    radius = blur_radius(sigma)
    planes = np.pad(pixels.transpose(2, 0, 1), ((0, 0), (radius, radius), (radius, radius)), "symmetric")
    [[blurred]] = blur_loop(torch.from_numpy(planes)[None, None], np.array([sigma]), radius)
    return np.ascontiguousarray(blurred.numpy().transpose(1, 2, 0))


def _noise(pixels: Pixels, seen: Seen, *, sigma: float) -> Pixels:
    from train.draws.noise import NORMALS
    from train.ops.cpu import add_noise
    from train.order.counter import signed

    planes = np.array(pixels.transpose(2, 0, 1), order="C")[None]  # a copy, even of 1x1 pixels
    add_noise(planes, signed(_word(seen.key)), 0, 0, np.float32(sigma), NORMALS)
    return np.ascontiguousarray(planes[0].transpose(1, 2, 0))


_RESAMPLER = Choice(words=RESAMPLERS)
_SUBSAMPLING = Choice(words=_SUBSAMPLINGS, default="4:2:0")

OPS: dict[str, Op] = {
    "jpeg": Op(
        run=_jpeg,
        parameters={"quality": Number(low=1, high=100, whole=True), "subsampling": _SUBSAMPLING},
    ),
    "webp": Op(run=_webp, parameters={"quality": Number(low=0, high=100, whole=True)}),
    "avif": Op(
        run=_avif,
        parameters={
            "quality": Number(low=0, high=100, whole=True),
            "subsampling": _SUBSAMPLING,
            "speed": Number(low=0, high=10, whole=True, default=6),
        },
    ),
    "resize": Op(run=_resize, parameters={"factor": Number(low=0.01, high=16), "resampler": _RESAMPLER}),
    "square": Op(
        run=_square, parameters={"side": Number(low=1, high=8192, whole=True), "resampler": _RESAMPLER}
    ),
    "crop": Op(run=_crop, parameters={"keep": Number(low=0.01, high=1)}),
    "blur": Op(run=_blur, parameters={"sigma": Number(low=0, high=25)}),
    "noise": Op(run=_noise, parameters={"sigma": Number(low=0, high=255)}),
}
"""By the name in YAML."""


def apply(name: str, pixels: Pixels, values: Mapping[str, Value], seen: Seen) -> Pixels:
    """The pixels after an operation.

    Args:
        name: one of `OPS`.
        pixels: of the image; they are not changed.
        values: of all parameters of the operation.
        seen: see `Seen`.

    Raises:
        RejectedImageError: the result would be too large, for memory or for a codec.
    """
    op = OPS[name]
    given: dict[str, Any] = {
        word: drawn(value, op.parameters[word], f"{seen.key}/{word}") for word, value in values.items()
    }
    return op.run(pixels, seen, **given)
