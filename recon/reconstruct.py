"""Images of any size in, their reconstructions of the same size out, to the pixel.

Shapes: B batch, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from recon.autoencoder import Autoencoder, image_seed
from recon.codec import Pixels
from recon.errors import UserError

BATCH_PIXELS = 1 << 22
"""Pixels of a batch of several images, at most, whatever the batch size: bounds the memory."""

_LUMA = (np.float32(0.299), np.float32(0.587), np.float32(0.114))  # ITU-R BT.601
_CHANNELS = 3


def reconstruct(
    autoencoder: Autoencoder,
    images: Sequence[Pixels],
    keys: Sequence[str],
    batch_size: int,
) -> list[Pixels]:
    """Reconstructs images of any sizes; grey stays grey.

    Args:
        autoencoder: what encodes and decodes.
        images: (H, W, C) uint8 each, C = 1 (grey) or 3 (RGB).
        keys: one for each image; seeds its posterior sample.
        batch_size: images a batch, at most; fewer where they exceed `BATCH_PIXELS`.

    Returns:
        uint8 images in the order and of the shapes given.

    Raises:
        UserError: the autoencoder gave values that are not finite, or another size.
    """
    results = dict(reconstruct_each(autoencoder, images, keys, batch_size))
    return [results[index] for index in range(len(images))]


def reconstruct_each(
    autoencoder: Autoencoder,
    images: Sequence[Pixels],
    keys: Sequence[str],
    batch_size: int,
) -> Iterator[tuple[int, Pixels]]:
    """Yields (index, reconstruction) as batches get ready; otherwise as `reconstruct`.

    Images are batched with those of the same padded size, in the order given, so that the
    batches are a function of the list alone.
    """
    assert len(images) == len(keys), (len(images), len(keys))
    for batch in _batches(images, autoencoder.multiple, batch_size):
        x_BCHW = np.stack([_padded(images[index], autoencoder.multiple) for index in batch])
        seeds = [image_seed(autoencoder.provenance.seed, keys[index]) for index in batch]
        y_BCHW = autoencoder.reconstruct_batch(x_BCHW, seeds)
        _check_shape(x_BCHW.shape, y_BCHW.shape)
        for index, y_CHW in zip(batch, y_BCHW, strict=True):
            yield index, _finished(y_CHW, images[index].shape, keys[index])


def _batches(images: Sequence[Pixels], multiple: int, batch_size: int) -> Iterator[list[int]]:
    """Indices of images of one padded size, in input order: `batch_size` or `BATCH_PIXELS` at a time."""
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        height, width, _ = image.shape
        buckets.setdefault((_rounded_up(height, multiple), _rounded_up(width, multiple)), []).append(index)
    for (height, width), bucket in buckets.items():
        count = max(1, min(batch_size, BATCH_PIXELS // (height * width)))
        for start in range(0, len(bucket), count):
            yield bucket[start : start + count]


def _rounded_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _padded(pixels: Pixels, multiple: int) -> NDArray[np.float32]:
    """(H, W, C) uint8 to (3, H', W') float32 in [0, 1], grown at the bottom and on the right."""
    for axis in (0, 1):
        size = pixels.shape[axis]
        deficit = _rounded_up(size, multiple) - size
        margins = [(0, deficit if each == axis else 0) for each in range(3)]
        pixels = np.pad(pixels, margins, mode="reflect" if deficit < size else "edge")
    rgb_HWC = np.broadcast_to(pixels, (*pixels.shape[:2], _CHANNELS))
    return np.ascontiguousarray(rgb_HWC.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def _check_shape(expected: tuple[int, ...], found: tuple[int, ...]) -> None:
    if expected != found:
        raise UserError(f"the autoencoder made {found} of {expected}: its downscale is not its upscale")


def _finished(y_CHW: NDArray[np.float32], shape: tuple[int, ...], key: str) -> Pixels:
    """Crops to `shape` (H, W, C) and rounds: truncation would shift 63 of 256 grey levels."""
    height, width, channels = shape
    y_CHW = y_CHW[:, :height, :width]
    if not np.isfinite(y_CHW).all():
        raise UserError(
            f"the reconstruction of {key!r} is not finite; float16 overflows: use --dtype bfloat16 or float32"
        )
    y_CHW = y_CHW.clip(0, 1)
    if channels == 1:
        y_CHW = sum(weight * plane for weight, plane in zip(_LUMA, y_CHW, strict=True))[None]
    levels: Pixels = np.rint(y_CHW * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))
