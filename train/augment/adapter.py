"""The exact ops of the trainer as ordinary Kornia modules, for use in other pipelines.

    from kornia.augmentation import AugmentationSequential
    from train.augment.adapter import RandomBlur, RandomJPEG

    augment = AugmentationSequential(RandomBlur(blur_sigma=(0, 3), p=0.5), RandomJPEG(p=0.5))
    x_BCHW = augment(x_BCHW)  # RGB in 0..1

Each module takes float images in 0..1, rounds them to the 256 levels, applies the trainer's op to the whole
image, and returns levels on the scale 0..1, without gradients. Arguments, defaults and ranges are those of
`AugmentConfig`'s fields. Like all Kornia modules they draw from torch's global generator and accept
`params=`. Images that `p` skips do not change in any bit.

Shapes: B images, P = 1, C = RGB, H rows, W columns.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from kornia.augmentation import IntensityAugmentationBase2D
from numpy.typing import NDArray
from torch import Tensor

from train.draws.boxes import cutout_box
from train.draws.config import AugmentConfig
from train.draws.noise import noise_keys
from train.draws.parameters import JITTER, draw_geometry, draw_photometric
from train.ops.blur import blur
from train.ops.jitter import grey, jitter
from train.ops.jpeg import jpeg, webp
from train.ops.pixel import cutout, noise, sharpen, to_grey
from train.window.geometry import mirror

Params = dict[str, NDArray[Any]]


class _ExactOp(IntensityAugmentationBase2D):
    """An op of the trainer as a Kornia module.

    Args:
        p: probability for each image.
        same_on_batch: whether all images of a batch get the same parameters.
        keepdim: whether an input (C, H, W) gives an output (C, H, W).
        **options: the fields of `AugmentConfig` that belong to the op.
    """

    NAME: ClassVar[str]
    """Name of the op; the field of its probability in `AugmentConfig` is `NAME`_p."""
    DRAWS: ClassVar[tuple[str, ...]] = ()
    """The fields of `PhotometricDraws` that the op needs."""

    def __init__(
        self, p: float = 0.5, same_on_batch: bool = False, keepdim: bool = False, **options: Any
    ) -> None:
        chance: dict[str, Any] = {f"{self.NAME}_p": p}
        self.config = AugmentConfig(**chance, **options)
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self.flags = options
        # The names of the op's parameters, found by drawing once.
        self.drawn = tuple(self.draw(0, np.zeros(1, np.int64)))

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draws the parameters of each image as the trainer does for a pair; torch draws the seed."""
        seed = int(torch.randint(2**62, (1,)))
        count = batch_shape[0]
        # Equal ids give equal draws.
        ids_B = np.zeros(count, np.int64) if self.same_on_batch else np.arange(count, dtype=np.int64)
        return {name: torch.from_numpy(np.array(one)) for name, one in self.draw(seed, ids_B).items()}

    def draw(self, seed: int, ids_B: NDArray[np.int64]) -> Params:
        """The parameters of the op; their first axis is B."""
        draws = draw_photometric(self.config, seed, 0, ids_B)
        return {name: getattr(draws, name) for name in self.DRAWS}

    @torch.no_grad()
    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],  # noqa: ARG002 - Kornia's signature
        transform: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Called by Kornia with float images; does not compute the images that Kornia will skip."""
        # Kornia does not read batch_prob in this case either (kornia issue 5585).
        always = self.p == 1 and self.p_batch == 1
        chosen = torch.ones(len(input), dtype=torch.bool) if always else params["batch_prob"].cpu() > 0.5
        rows = chosen.nonzero().flatten()
        out = input.clone()
        if len(rows):
            mine = {name: params[name].cpu()[rows].numpy() for name in self.drawn}
            level_B1CHW = (input[rows.to(input.device)] * 255.0).round().clamp(0, 255).byte()[:, None]
            changed_BCHW = self.apply_levels(level_B1CHW, mine)[:, 0]
            out[rows.to(input.device)] = changed_BCHW.to(input.dtype) / 255.0
        return out

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Applies the op to uint8 levels."""
        raise NotImplementedError


class RandomJitter(_ExactOp):
    """Pillow's brightness, contrast, saturation and hue, in a random order for each image.

    Options: brightness, contrast, saturation, hue. Contrast uses the mean grey of all pixels.
    """

    NAME, DRAWS = "jitter", ("order", *JITTER)

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Applies the op to one image after the other."""
        return torch.stack(
            [self._image(x_1CHW.float(), params, row) for row, x_1CHW in enumerate(x_B1CHW)]
        ).byte()

    def _image(self, x_1CHW: Tensor, params: Params, row: int) -> Tensor:
        order = params["order"][row].tolist()
        amounts = [float(params[name][row]) for name in JITTER]
        contrast = order.index(JITTER.index("contrast"))
        # Contrast needs the mean of the image as the ops before it have made it.
        x_1CHW = jitter(x_1CHW, order[:contrast], *amounts, mean=0)
        mean = int(grey(x_1CHW).double().mean() + 0.5)
        done: Tensor = jitter(x_1CHW, order[contrast:], *amounts, mean=mean)
        return done


class RandomGrey(_ExactOp):
    """ITU-R 601 luma in all three channels, as Pillow rounds it."""

    NAME = "grey"

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:  # noqa: ARG002
        """Applies the op to the whole batch."""
        return to_grey(x_B1CHW)


class RandomCutout(_ExactOp):
    """One square hole with its centre anywhere in the image. Options: cutout_side, cutout_fill."""

    NAME = "cutout"

    def draw(self, seed: int, ids_B: NDArray[np.int64]) -> Params:
        """The centre of the hole, in 0..1 of the image's height and width."""
        return {"centre": draw_geometry(self.config, seed, 0, ids_B).cutout_centre}

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Applies the op to the whole batch."""
        side, size = self.config.cutout_side, x_B1CHW.shape[-2:]
        boxes_B4 = np.array([cutout_box(centre, side, *size) for centre in params["centre"]], np.int64)
        return cutout(x_B1CHW, boxes_B4, np.zeros((len(boxes_B4), 2), np.int64), self.config.cutout_fill)


class RandomNoise(_ExactOp):
    """Gaussian noise for each pixel and channel; the sum is clipped and floored. Option: noise_variance."""

    NAME, DRAWS = "noise", ("noise_sigma",)

    def draw(self, seed: int, ids_B: NDArray[np.int64]) -> Params:
        """The standard deviation, and the key of the noise field."""
        return super().draw(seed, ids_B) | {"key": noise_keys(seed, 0, ids_B)}

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Applies the op to the whole batch."""
        origins_B2 = np.zeros((len(x_B1CHW), 2), np.int64)
        return noise(x_B1CHW, params["key"], origins_B2, params["noise_sigma"])


class RandomBlur(_ExactOp):
    """`scipy.ndimage.gaussian_filter` of uint8 planes. Option: blur_sigma in pixels."""

    NAME, DRAWS = "blur", ("blur_sigma",)

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Applies the op to the whole batch, with a mirrored border."""
        radius = self.config.blur_radius
        for axis in (-2, -1):
            size = x_B1CHW.shape[axis]
            places = torch.from_numpy(mirror(-radius, size + 2 * radius, size))
            x_B1CHW = x_B1CHW.index_select(axis, places.to(x_B1CHW.device))
        return blur(x_B1CHW, params["blur_sigma"], radius)


class RandomSharpen(_ExactOp):
    """ImageEnhance.Sharpness of Pillow. Option: sharpen, which is the factor minus 1."""

    NAME, DRAWS = "sharpen", ("sharpen_amount",)

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Applies the op to the whole batch."""
        return sharpen(x_B1CHW, params["sharpen_amount"])


class _Compression(_ExactOp):
    """Compression by a codec, and decompression."""

    CODEC: ClassVar[Any]

    def apply_levels(self, x_B1CHW: Tensor, params: Params) -> Tensor:
        """Pads the images to the codec's grid of 16 pixels, compresses them, and cuts the padding off."""
        height, width = x_B1CHW.shape[-2:]
        # The value of the padding does not matter: `extent` tells the codec where the image ends.
        grid = F.pad(x_B1CHW, (0, -width % 16, 0, -height % 16))
        extent_B2 = np.tile(np.array([height, width], np.int64), (len(grid), 1))
        (quality_B,) = (params[name] for name in self.DRAWS)
        done: Tensor = type(self).CODEC(grid, quality_B, extent_B2)
        return done[..., :height, :width]


class RandomJPEG(_Compression):
    """JPEG, 4:2:0, with libjpeg-turbo's exact pixels, on GPUs, too. Option: jpeg_quality, integers 1..100."""

    NAME, DRAWS, CODEC = "jpeg", ("jpeg_quality",), staticmethod(jpeg)


class RandomWebP(_Compression):
    """Lossy WebP by libwebp, on the CPU. Option: webp_quality, integers 1..100."""

    NAME, DRAWS, CODEC = "webp", ("webp_quality",), staticmethod(webp)


OPS: Sequence[type[_ExactOp]] = (
    *(RandomJitter, RandomGrey, RandomCutout, RandomNoise, RandomBlur, RandomSharpen, RandomJPEG, RandomWebP),
)
"""All ops in the trainer's order."""
