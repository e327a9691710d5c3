"""Images of any size in, logits out: batches of one size, bounded in memory.

Equal images shall get equal scores, bit for bit. A kernel may sum in an order that goes by an image's row
in the batch (the last layer's does, on x86) or by the batch's size (convolutions do), so on a CPU every
image is a call of its own: equal bytes, shape, layout and alignment, equal threads, so equal bits.
On a GPU that would cost small images most of the speed; `images_a_call` says what holds there.

Shapes: B images of a batch, P = (real, fake), H rows, W columns.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recon.base.device import is_out_of_memory
from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.model.normalize import normalize

BATCH_PIXELS = 1 << 21
"""Pixels of a batch of several images, at most (2 MP; res50nodown then needs some 5 GB)."""
HELD_PIXELS = 1 << 26
"""Pixels that wait for others of their size, at most (200 MB)."""


def images_a_call(device: torch.device, batch_size: int) -> int:
    """How many images the model takes at once: one on a CPU, so that equal images get equal scores.

    On a GPU, which takes `batch_size`, equal images may differ in the last bits unless that is 1. Then
    every call has one shape, for which cuDNN and cuBLAS document equal results on one kind of GPU, library
    version and stream; that was not measured.
    """
    return 1 if device.type == "cpu" else batch_size


def pair_logits(model: nn.Module, pairs_BPCHW: torch.Tensor, normalization: str) -> torch.Tensor:
    """Scores pairs so that halves of equal pixels get equal scores.

    On a CPU that holds of any two equal images (see `images_a_call`). On a GPU the halves are two calls of
    one shape, and partners the same row of both: equal where kernels repeat themselves.

    Args:
        model: a detector in eval mode, on the device of the pairs.
        pairs_BPCHW: uint8 or float in 0..1, at least one pair.
        normalization: of `train.model.normalize.NORMALIZATIONS`.

    Returns:
        (B, P) float32 logits.
    """
    if pairs_BPCHW.device.type == "cpu":
        single = [_call(model, one, normalization) for one in pairs_BPCHW.flatten(0, 1)[:, None]]
        return torch.cat(single).view(-1, 2)
    return torch.stack([_call(model, half, normalization) for half in pairs_BPCHW.unbind(1)], dim=1)


def _call(model: nn.Module, x_N3HW: torch.Tensor, normalization: str) -> torch.Tensor:
    """(N,) logits in one call; of one layout in memory, by which kernels and so sums are chosen."""
    logit_N: torch.Tensor = model(normalize(x_N3HW.contiguous(), normalization))
    return logit_N.float()


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
    """Scores a batch of images of one size in one call.

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
            scored: Any = _call(model, x_B3HW, normalization).cpu().numpy()
    except RuntimeError as error:
        if not is_out_of_memory(error):
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
        batch_size: images of a batch, at most; a CPU takes them one by one (see `images_a_call`).
        device: where the model is.
        normalization: of `train.model.normalize.NORMALIZATIONS`, as in training.

    Yields:
        The places of a batch's images in the source, and their logits.
    """
    model.eval()
    for batch in by_size(images, images_a_call(device, batch_size)):
        pixels_BHWC = np.stack([image.pixels for image in batch])
        yield [image.index for image in batch], logits_of(model, pixels_BHWC, device, normalization)


def _pixels(bucket: list[Waiting]) -> int:
    return sum(image.pixels.shape[0] * image.pixels.shape[1] for image in bucket)


def _is_full(bucket: list[Waiting], batch_size: int) -> bool:
    """Whether one more image would exceed the batch size or the pixels of a batch."""
    return len(bucket) >= batch_size or _pixels(bucket) // len(bucket) * (len(bucket) + 1) > BATCH_PIXELS
