"""The degradations, on whole images, and what is done to a mask beside them.

Pixels are (H, W, 3) uint8; an operation does not change those that it is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels, recompress
from recon.image.drawing import fitted, resize
from train.chains.declared import OPS
from train.draws.config import blur_radius
from train.draws.noise import NORMALS
from train.ops.gaussian import gaussian_weights

_IMAGENET = 255 * np.array([0.485, 0.456, 0.406])  # the mean colour of a high-pass filtered image


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an operation knows beside the pixels and its parameters."""

    noise_key: int
    """int64, of the noise field."""
    max_pixels: int
    """Results of more pixels are refused."""


def apply(name: str, pixels: Pixels, values: Mapping[str, Any], seen: Seen) -> Pixels:
    """The pixels after an operation.

    Args:
        name: one of `train.chains.declared.OPS`.
        pixels: of the image; they are not changed.
        values: of all parameters of the operation, as they were drawn.
        seen: see `Seen`.

    Raises:
        RejectedImageError: the result would be too large, for memory or for a codec.
    """
    return RUN[name](pixels, seen, **values)


def apply_to_mask(name: str, mask: Pixels, values: Mapping[str, Any], seen: Seen) -> Pixels:
    """The mask that belongs to the image after the operation: no grey level comes between two others."""
    if not OPS[name].moves:
        return mask
    return apply(name, mask, {**values, **({"resampler": "nearest"} if "resampler" in values else {})}, seen)


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


def _thumbnail(pixels: Pixels, seen: Seen, *, side: int, resampler: str) -> Pixels:
    """Fits the image into a square, as sites show it in lists; smaller images stay as they are."""
    if max(pixels.shape[:2]) <= side:
        return pixels.copy()
    height, width = fitted(pixels.shape[0], pixels.shape[1], side)
    return _resized(pixels, seen, height, width, resampler)


def _screenshot(pixels: Pixels, seen: Seen, *, display: float, resampler: str) -> Pixels:
    """What a screenshot holds of an image on a page: as many pixels as the display shows it with.

    Browsers enlarge a page's images to the pixels of the display, mostly by bilinear filters of the graphics
    processor; the file of the screenshot is lossless, and what a site does to it is the chain's next step.
    """
    return _resize(pixels, seen, factor=display, resampler=resampler)


def _resized(pixels: Pixels, seen: Seen, height: int, width: int, resampler: str) -> Pixels:
    if height * width > seen.max_pixels:
        raise RejectedImageError(f"{width}x{height} exceeds max_pixels={seen.max_pixels}; raise --max_pixels")
    return resize(pixels, height, width, resampler)


def _crop(pixels: Pixels, _: Seen, *, keep: float) -> Pixels:
    sizes = [max(1, int(side * keep + 0.5)) for side in pixels.shape[:2]]
    top, left = ((side - size) // 2 for side, size in zip(pixels.shape[:2], sizes, strict=True))
    return np.ascontiguousarray(pixels[top : top + sizes[0], left : left + sizes[1]])


def _blur(pixels: Pixels, _: Seen, *, sigma: float) -> Pixels:
    from train.ops.cpu import blur_planes  # imports numba, which only a blur and noise need here

    radius = blur_radius(sigma)
    planes = np.pad(pixels.transpose(2, 0, 1), ((0, 0), (radius, radius), (radius, radius)), "symmetric")
    blurred = np.empty((3, *pixels.shape[:2]), np.uint8)
    blur_planes(np.ascontiguousarray(planes), gaussian_weights(sigma, radius)[radius:], blurred)
    return np.ascontiguousarray(blurred.transpose(1, 2, 0))


def _noise(pixels: Pixels, seen: Seen, *, sigma: float) -> Pixels:
    from train.ops.cpu import add_noise

    planes = np.array(pixels.transpose(2, 0, 1), order="C")[None]  # a copy, even of 1x1 pixels
    add_noise(planes, seen.noise_key, 0, 0, np.float32(sigma), NORMALS)
    return np.ascontiguousarray(planes[0].transpose(1, 2, 0))


def _highpass(pixels: Pixels, _: Seen, *, sigma: float) -> Pixels:
    """The image less its Gaussian blur, around ImageNet's mean colour.

    Source: `data_augment_hpf` of AlignedForensics (`--hpf_prob`): a kernel of int(7 sigma) taps, one more if
    that is even, and borders that mirror without repeating the last pixel. Here it is rounded to levels.
    """
    from scipy.ndimage import correlate1d  # .2 s of each worker's start: only for those who filter

    radius = int(7 * sigma) // 2
    weights = gaussian_weights(sigma, radius)
    low = pixels.astype(np.float64)
    for axis in (0, 1):
        low = correlate1d(low, weights, axis, mode="mirror")
    levels: Pixels = np.rint(pixels - low + _IMAGENET).clip(0, 255).astype(np.uint8)
    return levels


RUN: dict[str, Callable[..., Pixels]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "resize": _resize,
    "square": _square,
    "thumbnail": _thumbnail,
    "screenshot": _screenshot,
    "crop": _crop,
    "blur": _blur,
    "noise": _noise,
    "highpass": _highpass,
}
"""Takes the pixels, `Seen`, and the parameters by name."""
