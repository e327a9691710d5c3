"""Images of any size in, their reconstructions of the same size out, to the pixel.

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
_LOG = logging.getLogger(__name__)
_told: set[str] = set()  # what this process has warned of


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
        batch_size: images a batch, at most; fewer where they exceed `recon.batches.BATCH_PIXELS`.

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
    """Reconstructs images of one bucket together; where memory is short, half of them at a time.

    Images of more than the autoencoder's `tiling_pixels` go one by one, in tiles (`recon.tiling`).

    Args:
        autoencoder: what encodes and decodes.
        images: (H, W, C) uint8 each, C = 1 (grey) or 3 (RGB), of one `recon.batches.bucket`.
        keys: one for each image; seeds its posterior sample.

    Returns:
        uint8 images in the order and of the shapes given; by the identity, the very images.

    Raises:
        UserError: the autoencoder gave values that are not finite, or another size, or a single
            image doesn't fit into memory.
    """
    assert len(images) == len(keys), (len(images), len(keys))
    if isinstance(autoencoder, Identity):
        return list(images)
    sizes = {_bucket(autoencoder, image) for image in images}
    assert len(sizes) == 1, sizes
    [size] = sizes
    if size.pixels > autoencoder.provenance.tiling_pixels:
        return [_tiled(autoencoder, image, size, key) for image, key in zip(images, keys, strict=True)]
    x_BCHW = np.stack([_padded(image, size) for image in images])
    y_BCHW = _run(autoencoder, x_BCHW, [image_seed(autoencoder.provenance.seed, key) for key in keys])
    return [_finished(y, image.shape, key) for y, image, key in zip(y_BCHW, images, keys, strict=True)]


def _tiled(autoencoder: Autoencoder, image: Pixels, size: Bucket, key: str) -> Pixels:
    """Reconstructs one large image tile by tile; each tile's posterior sample has its own seed."""
    about = autoencoder.provenance

    def run(tile_CHW: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        seed = image_seed(about.seed, f"{key}\n{number}")
        tile: NDArray[np.float32] = _run(autoencoder, tile_CHW[None], [seed])[0]
        return tile

    y_CHW = reconstruct_tiled(run, _padded(image, size), about.tiling_pixels, autoencoder.multiple)
    return _finished(y_CHW, image.shape, key)


def _bucket(autoencoder: Autoencoder, image: Pixels) -> Bucket:
    return bucket(image.shape[0], image.shape[1], autoencoder.multiple)


def _run(autoencoder: Autoencoder, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
    """One batch, or its halves where it doesn't fit: a function of the batch on a given machine."""
    try:
        y_BCHW = autoencoder.reconstruct_batch(x_BCHW, seeds)
    except OutOfMemoryError:
        if len(x_BCHW) == 1:
            raise
    else:
        _check_shape(x_BCHW.shape, y_BCHW.shape)
        return y_BCHW
    _warn_once(
        f"{_times(x_BCHW.shape)} don't fit into memory, so half of them at a time; "
        "a lower --batch_size saves the vain tries"
    )
    half = (len(x_BCHW) + 1) // 2  # only here, when the error and all that its frames held is gone
    parts = [(x_BCHW[:half], seeds[:half]), (x_BCHW[half:], seeds[half:])]
    return np.concatenate([_run(autoencoder, *part) for part in parts])


def _times(shape: Sequence[int]) -> str:
    count, _, height, width = shape
    return f"{count} images of {width}x{height}"


def _warn_once(message: str) -> None:
    if "memory" not in _told:
        _told.add("memory")
        _LOG.warning(message)


def _padded(pixels: Pixels, size: Bucket) -> NDArray[np.float32]:
    """(H, W, C) uint8 to (3, H', W') float32 in [0, 1], grown at the bottom and on the right."""
    for axis, padded in enumerate((size.height, size.width)):
        deficit = padded - pixels.shape[axis]
        margins = [(0, deficit if each == axis else 0) for each in range(3)]
        pixels = np.pad(pixels, margins, mode="reflect" if deficit < pixels.shape[axis] else "edge")
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
    y_CHW = y_CHW.clip(0, 1)  # a new array, which may be changed in place
    if channels == 1:
        y_CHW = sum(weight * plane for weight, plane in zip(_LUMA, y_CHW, strict=True))[None]
    y_CHW *= np.float32(255)
    levels: Pixels = np.rint(y_CHW, out=y_CHW).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))
