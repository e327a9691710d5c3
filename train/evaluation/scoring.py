"""Images of any size in, logits out: batches of one size, bounded in memory.

Shapes: B images of a batch, H rows, W columns.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.model.normalize import normalize

BATCH_PIXELS = 1 << 21
"""Pixels of a batch of several images, at most (2 MP; res50nodown then needs some 5 GB)."""
HELD_PIXELS = 1 << 26
"""Pixels that wait for others of their size, at most (200 MB)."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An image on its way to the model."""

    index: int
    """Its place in the source."""
    pixels: Pixels
    """(H, W, 3) uint8."""


def by_size(
    images: Iterable[Waiting], batch_size: int, held_pixels: int = HELD_PIXELS
) -> Iterator[list[Waiting]]:
    """Gathers images of equal size into batches, each image exactly once.

    A batch leaves when it is full; the one of most pixels leaves early when too much is held.

    Args:
        images: the stream.
        batch_size: images of a batch, at most; fewer where they exceed `BATCH_PIXELS`.
        held_pixels: bound on the pixels that wait, one image apart.
    """
    buckets: dict[tuple[int, ...], list[Waiting]] = defaultdict(list)
    held = 0
    for image in images:
        size = image.pixels.shape[:2]
        buckets[size].append(image)
        held += _pixels([image])
        if not _is_full(buckets[size], batch_size):
            if held <= held_pixels:
                continue
            size = max(buckets, key=lambda size: _pixels(buckets[size]))
        held -= _pixels(buckets[size])
        yield buckets.pop(size)
    yield from buckets.values()


def logits_of(
    model: nn.Module, pixels_BHWC: NDArray[np.uint8], device: torch.device, normalization: str = "resnet"
) -> NDArray[np.float32]:
    """Scores a batch of images of one size.

    Args:
        model: a detector in eval mode on `device`.
        pixels_BHWC: (B, H, W, 3) uint8 RGB.
        device: where the model is.
        normalization: of `train.model.normalize.NORMALIZATIONS`, as in training.

    Returns:
        (B,) float32 logits, above 0 for fake.

    Raises:
        UserError: the batch does not fit the device's memory.
    """
    x_B3HW = torch.from_numpy(pixels_BHWC).to(device).permute(0, 3, 1, 2)
    try:
        with torch.inference_mode():
            scored: Any = model(normalize(x_B3HW, normalization)).float().cpu().numpy()
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a plain one on a CPU
        if "memory" not in str(error):
            raise
        count, height, width = pixels_BHWC.shape[:3]
        raise UserError(
            f"{count} image(s) of {width}x{height} exceed the memory of {device}; "
            "pass --crop N or a smaller --batch_size"
        ) from error
    return np.asarray(scored, dtype=np.float32)


def score(
    model: nn.Module,
    images: Iterable[Waiting],
    *,
    batch_size: int,
    device: torch.device,
    normalization: str = "resnet",
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Scores a stream of images of any sizes.

    Args:
        model: a detector on `device`; it is put in eval mode.
        images: the stream.
        batch_size: images of a batch, at most.
        device: where the model is.
        normalization: of `train.model.normalize.NORMALIZATIONS`, as in training.

    Yields:
        The places of a batch's images in the source, and their logits.
    """
    model.eval()
    for batch in by_size(images, batch_size):
        pixels_BHWC = np.stack([image.pixels for image in batch])
        yield [image.index for image in batch], logits_of(model, pixels_BHWC, device, normalization)


def _pixels(bucket: list[Waiting]) -> int:
    return sum(image.pixels.shape[0] * image.pixels.shape[1] for image in bucket)


def _is_full(bucket: list[Waiting], batch_size: int) -> bool:
    """Whether one more image would exceed the batch size or the pixels of a batch."""
    return len(bucket) >= batch_size or _pixels(bucket) // len(bucket) * (len(bucket) + 1) > BATCH_PIXELS
