"""Reconstructs images of any size; a reconstruction has exactly the size of its image.

Shapes: B batch, C channels, H height, W width.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from recon.batches import Bucket, batched, bucket
from recon.image.codec import Pixels
from recon.models.types import Autoencoder, Identity, OutOfMemoryError, image_seed
from recon.tiling import reconstruct_tiled

_LUMA = (np.float32(0.299), np.float32(0.587), np.float32(0.114))  # ITU-R BT.601
_CHANNELS = 3
_NOT_FINITE = {  # what to do about it, by the type of the numbers
    "float16": "it overflows: use --dtype bfloat16 or float32",
    "bfloat16": "use --dtype float32",
    "float32": "its weights may be damaged: fetch them again, or choose another --autoencoder",
}
_LOG = logging.getLogger(__name__)
_told: set[str] = set()  # kinds of warnings that this process has logged


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
        batch_size: largest number of images in a batch; `recon.batches.BATCH_PIXELS` may lower it.

    Returns:
        uint8 images in the order and of the shapes given.

    Raises:
        UserError: the autoencoder returned values that are not finite, or another size.
    """
    results = dict(reconstruct_each(autoencoder, images, keys, batch_size))
    return [results[index] for index in range(len(images))]


def reconstruct_each(
    autoencoder: Autoencoder,
    images: Sequence[Pixels],
    keys: Sequence[str],
    batch_size: int,
) -> Iterator[tuple[int, Pixels]]:
    """Yields (index, reconstruction) as soon as a batch is ready; arguments and errors as in `reconstruct`.

    A batch holds images of one padded size, in the given order. The batches depend on the list alone.
    """
    assert len(images) == len(keys), (len(images), len(keys))

    def bucket_of(index: int) -> Bucket:
        return _bucket(autoencoder, images[index])

    for batch in batched(range(len(images)), bucket_of, batch_size):
        fakes = reconstruct_batch(
            autoencoder, [images[each] for each in batch], [keys[each] for each in batch]
        )
        yield from zip(batch, fakes, strict=True)


def reconstruct_batch(
    autoencoder: Autoencoder, images: Sequence[Pixels], keys: Sequence[str]
) -> list[Pixels]:
    """Reconstructs images of one bucket together; if memory runs out, half of them at a time.

    Images of more than the autoencoder's `tiling_pixels` are reconstructed one by one in tiles. Where its
    provenance says so, the reconstructions are reconstructed again, as if they had been saved in between.

    Args:
        autoencoder: what encodes and decodes.
        images: (H, W, C) uint8 each, C = 1 (grey) or 3 (RGB), of one `recon.batches.bucket`.
        keys: one for each image; seeds its posterior sample.

    Returns:
        uint8 images in the order and of the shapes given; `Identity` returns the same arrays.

    Raises:
        UserError: the autoencoder returned values that are not finite, or another size, or can't take
            images of this size, or a single image doesn't fit into memory.
    """
    assert len(images) == len(keys), (len(images), len(keys))
    fakes = _once(autoencoder, images, keys)
    for generation in range(2, autoencoder.provenance.generations + 1):
        fakes = _once(autoencoder, fakes, [f"{key}\ngeneration {generation}" for key in keys])
    return fakes


def _once(autoencoder: Autoencoder, images: Sequence[Pixels], keys: Sequence[str]) -> list[Pixels]:
    if isinstance(autoencoder, Identity):
        return list(images)  # no detour through float32, so that pixels are the same by construction
    for image, key in zip(images, keys, strict=True):
        _check_size(autoencoder, image, key)
    sizes = {_bucket(autoencoder, image) for image in images}
    assert len(sizes) == 1, sizes
    [size] = sizes
    if size.pixels > autoencoder.provenance.tiling_pixels and autoencoder.only_side is None:
        return [_tiled(autoencoder, image, size, key) for image, key in zip(images, keys, strict=True)]
    x_BCHW = np.stack([_padded(image, size) for image in images])
    y_BCHW = _run(autoencoder, x_BCHW, [image_seed(autoencoder.provenance.seed, key) for key in keys])
    dtype = autoencoder.provenance.dtype
    return [_finished(y, image.shape, key, dtype) for y, image, key in zip(y_BCHW, images, keys, strict=True)]


def _tiled(autoencoder: Autoencoder, image: Pixels, size: Bucket, key: str) -> Pixels:
    """Reconstructs one large image tile by tile; each tile has its own seed for the posterior sample."""
    about = autoencoder.provenance

    def run(tile_CHW: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        seed = image_seed(about.seed, f"{key}\n{number}")
        tile: NDArray[np.float32] = _run(autoencoder, tile_CHW[None], [seed])[0]
        return tile

    y_CHW = reconstruct_tiled(run, _padded(image, size), about.tiling_pixels, autoencoder.multiple)
    return _finished(y_CHW, image.shape, key, about.dtype)


def _bucket(autoencoder: Autoencoder, image: Pixels) -> Bucket:
    return bucket(image.shape[0], image.shape[1], autoencoder.multiple)


def _check_size(autoencoder: Autoencoder, image: Pixels, key: str) -> None:
    (height, width, _), side = image.shape, autoencoder.only_side
    if side is not None and (height, width) != (side, side):
        raise UserError(
            f"{autoencoder.provenance.autoencoder} reconstructs only images of exactly {side}x{side} pixels, "
            f"but {key!r} has {width}x{height}; give images of that size, or choose another --autoencoder"
        )


def _run(autoencoder: Autoencoder, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
    """Runs one batch, or its two halves if it doesn't fit into memory."""
    try:
        y_BCHW = autoencoder.reconstruct_batch(x_BCHW, seeds)
    except OutOfMemoryError:
        if len(x_BCHW) == 1:  # nothing is left to halve
            raise
    else:
        _check_shape(x_BCHW.shape, y_BCHW.shape)
        return y_BCHW
    _warn_once(
        f"{_times(x_BCHW.shape)} don't fit into memory; half of them run at a time. "
        "A lower --batch_size avoids the failed attempts"
    )
    # Not inside `except`: there, the error's traceback still holds the tensors of the failed batch.
    half = (len(x_BCHW) + 1) // 2
    parts = [(x_BCHW[:half], seeds[:half]), (x_BCHW[half:], seeds[half:])]
    return np.concatenate([_run(autoencoder, *part) for part in parts])


def _times(shape: Sequence[int]) -> str:
    count, _, height, width = shape
    return f"{count} images of {width}x{height}"


def _warn_once(message: str) -> None:
    if "memory" not in _told:  # every later batch of this size would warn again
        _told.add("memory")
        _LOG.warning(message)


def _padded(pixels: Pixels, size: Bucket) -> NDArray[np.float32]:
    """Turns (H, W, C) uint8 into (3, H', W') float32 in [0, 1], padded at the bottom and on the right."""
    for axis, padded in enumerate((size.height, size.width)):
        deficit = padded - pixels.shape[axis]
        margins = [(0, deficit if each == axis else 0) for each in range(3)]
        # Reflection needs more pixels than it adds; a very small image repeats its edge instead.
        pixels = np.pad(pixels, margins, mode="reflect" if deficit < pixels.shape[axis] else "edge")
    rgb_HWC = np.broadcast_to(pixels, (*pixels.shape[:2], _CHANNELS))
    return np.ascontiguousarray(rgb_HWC.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def _check_shape(expected: tuple[int, ...], found: tuple[int, ...]) -> None:
    if expected != found:
        raise UserError(
            f"the autoencoder returned shape {found} for {expected}, expected the same shape: its decoder "
            "doesn't undo the encoder's downscale; choose another --autoencoder"
        )


def _finished(y_CHW: NDArray[np.float32], shape: tuple[int, ...], key: str, dtype: str) -> Pixels:
    """Crops to `shape` (H, W, C) and rounds to uint8; truncation would shift 63 of 256 grey levels."""
    height, width, channels = shape
    y_CHW = y_CHW[:, :height, :width]
    if not np.isfinite(y_CHW).all():
        raise UserError(f"the reconstruction of {key!r} is not finite in {dtype}; {_NOT_FINITE[dtype]}")
    y_CHW = y_CHW.clip(0, 1)  # a new array, which may be changed in place
    if channels == 1:
        y_CHW = sum(weight * plane for weight, plane in zip(_LUMA, y_CHW, strict=True))[None]
    y_CHW *= np.float32(255)
    levels: Pixels = np.rint(y_CHW, out=y_CHW).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))
