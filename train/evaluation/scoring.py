"""Scores images of any size, in batches of one size and with bounded memory.

Equal images must get equal scores, bit for bit. But the order in which a kernel adds may depend on the
row of the image in the batch (in the last layer, on x86) or on the size of the batch (in convolutions).
So on a CPU the model gets one image in each call: equal bytes, shape, layout, alignment and threads give
equal bits. Several images are scored side by side there, each by one thread; only an image that is too large
for that is shared among all threads. Which of the two it is, its size alone says (`threads_for`).
On a GPU single images would be much slower; `images_a_call` says what holds there.

Shapes: B images of a batch, P = (real, fake), V crops of an image, H rows, W columns.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recon.base.device import is_out_of_memory
from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.evaluation.work.threads import inner_threads, single_threads
from train.model.normalize import normalize

BATCH_PIXELS = 1 << 21
"""Most pixels in a batch of several images (2 MP; res50nodown then needs about 5 GB)."""
THREAD_PIXELS = 1 << 18
"""Pixels that each thread may score beside the others, however many threads there are (512x512)."""
HELD_PIXELS = 1 << 26
"""Most pixels of the images that wait for others of the same size (200 MB)."""

Scored = tuple[list[int], NDArray[np.float32]]
"""Numbers of outcomes (see `Waiting.index`), and their logits."""


def images_a_call(device: torch.device, batch_size: int) -> int:
    """How many images the model gets in a call: one on a CPU, so that equal images get equal scores.

    On a GPU it gets `batch_size` images, and scores of equal images may differ in the last bits. With
    `batch_size` 1 all calls have the same shape; for that cuDNN and cuBLAS document equal results on the same
    kind of GPU, library version and stream. This was not measured.
    """
    return 1 if device.type == "cpu" else batch_size


def threads_for(pixels: int, threads: int) -> int:
    """How many threads share the call for an image on a CPU: one, or all if it has too many pixels.

    Threads that score an image each hold `BATCH_PIXELS` together (or `THREAD_PIXELS` each, if that is more).

    Args:
        pixels: height x width of the image.
        threads: torch's number of threads in this process.
    """
    return 1 if pixels * threads <= max(BATCH_PIXELS, threads * THREAD_PIXELS) else threads


def pair_logits(model: nn.Module, pairs_BPCHW: torch.Tensor, normalization: str) -> torch.Tensor:
    """Scores pairs; if the two images of a pair have equal pixels, they get equal scores.

    On a CPU this holds for any two equal images (see `images_a_call`). On a GPU there are two calls of the
    same shape, one with all real and one with all fake images, so the two images of a pair have the same row.
    Their scores are equal if the kernels are deterministic.

    Args:
        model: a detector in eval mode, on the device of the pairs.
        pairs_BPCHW: uint8 or float in 0..1, at least one pair.
        normalization: a name that `train.model.normalize.find_normalization` knows.

    Returns:
        (B, P) float32 logits.
    """
    if pairs_BPCHW.device.type == "cpu":
        height, width = pairs_BPCHW.shape[-2:]
        with inner_threads(threads_for(height * width, torch.get_num_threads())):
            single = [_call(model, one, normalization) for one in pairs_BPCHW.flatten(0, 1)[:, None]]
        return torch.cat(single).view(-1, 2)
    return torch.stack([_call(model, half, normalization) for half in pairs_BPCHW.unbind(1)], dim=1)


def _call(model: nn.Module, x_N3HW: torch.Tensor, normalization: str) -> torch.Tensor:
    """(N,) logits in one call of the model. The images are made contiguous: the layout selects the kernel."""
    logit_N: torch.Tensor = model(normalize(x_N3HW.contiguous(), normalization))
    return logit_N.float()


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An image that waits for the model."""

    index: int
    """Number of its outcome: its place in the source or, of views, see `train.evaluation.images.ready`."""
    pixels: Pixels
    """(H, W, 3) uint8; or (V, H, W, 3), of several crops, whose logits are averaged."""
    part: int = 0
    """Images of different parts never share a batch, so that a part's scores depend on no other part."""


def by_size(
    images: Iterable[Waiting], batch_size: int, held_pixels: int = HELD_PIXELS
) -> Iterator[list[Waiting]]:
    """Collects images of equal size into batches; each image is in one batch.

    A batch is yielded when it is full. If too many pixels wait, the batch with most pixels is yielded early.

    Args:
        images: the stream.
        batch_size: most images in a batch; fewer if they would exceed `BATCH_PIXELS`.
        held_pixels: most pixels that wait; the newest image may exceed it.
    """
    buckets: dict[tuple[int, ...], list[Waiting]] = defaultdict(list)
    held = 0
    for image in images:
        size = image.pixels.shape
        buckets[size].append(image)
        held += _pixels([image])
        if not _is_full(buckets[size], batch_size):
            if held <= held_pixels:
                continue
            # The batch with most pixels frees the most memory.
            size = max(buckets, key=lambda size: _pixels(buckets[size]))
        held -= _pixels(buckets[size])
        yield buckets.pop(size)
    yield from buckets.values()


def logits_of(
    model: nn.Module, pixels_BHWC: NDArray[np.uint8], device: torch.device, normalization: str = "resnet"
) -> NDArray[np.float32]:
    """Scores a batch of images of one size in one call of the model.

    Args:
        model: a detector in eval mode on `device`.
        pixels_BHWC: (B, H, W, 3) uint8 RGB.
        device: the device of the model.
        normalization: a name that `train.model.normalize.find_normalization` knows, as in training.

    Returns:
        (B,) float32 logits, above 0 for fake.

    Raises:
        UserError: the batch does not fit the device's memory, or the model takes no images of this size.
    """
    x_B3HW = torch.from_numpy(pixels_BHWC).to(device).permute(0, 3, 1, 2)
    try:
        with torch.inference_mode():
            scored: Any = _call(model, x_B3HW, normalization).cpu().numpy()
    except AssertionError as error:  # timm's, of models that take one size only
        height, width = pixels_BHWC.shape[1:3]
        raise UserError(
            f"the model can't take {width}x{height} pixels: {error}; choose a --view that gives what it takes"
        ) from error
    except RuntimeError as error:  # on a CPU, torch raises no OutOfMemoryError of its own
        if not is_out_of_memory(error):
            raise
        count, height, width = pixels_BHWC.shape[:3]
        raise UserError(
            f"{count} image(s) of {width}x{height} exceed the memory of {device}; "
            "pass --crop N or a smaller --batch_size"
        ) from error
    return np.asarray(scored, dtype=np.float32)


def mean_logits(
    model: nn.Module, pixels_BVHWC: NDArray[np.uint8], device: torch.device, normalization: str = "resnet"
) -> NDArray[np.float32]:
    """Scores images by the mean of the logits of their crops; arguments and errors as those of `logits_of`.

    Args:
        model: a detector in eval mode on `device`.
        pixels_BVHWC: (B, V, H, W, 3) uint8 RGB; or (B, H, W, 3), of a single part each.
        device: the device of the model.
        normalization: as in training.

    Returns:
        (B,) float32 logits.
    """
    if pixels_BVHWC.ndim == 4:
        return logits_of(model, pixels_BVHWC, device, normalization)
    pixels_NHWC = pixels_BVHWC.reshape(-1, *pixels_BVHWC.shape[2:])
    # On a CPU one crop in each call, as if it were an image: so a crop's logit depends on no other.
    step = images_a_call(device, len(pixels_NHWC))
    calls = [pixels_NHWC[first : first + step] for first in range(0, len(pixels_NHWC), step)]
    logits_N = np.concatenate([logits_of(model, one, device, normalization) for one in calls])
    mean_B: NDArray[np.float32] = (
        logits_N.reshape(pixels_BVHWC.shape[:2]).mean(axis=1, dtype=np.float64).astype(np.float32)
    )
    return mean_B


def score(
    model: nn.Module,
    images: Iterable[Waiting],
    *,
    batch_size: int,
    device: torch.device,
    normalization: str = "resnet",
) -> Iterator[Scored]:
    """Scores a stream of images of any sizes.

    Args:
        model: a detector on `device`; it is put in eval mode.
        images: the stream.
        batch_size: most images in a batch; on a CPU each image is scored alone (see `images_a_call`).
        device: the device of the model.
        normalization: a name that `train.model.normalize.find_normalization` knows, as in training.

    Yields:
        For each batch, the numbers of its outcomes, and their logits.
    """
    model.eval()
    if device.type == "cpu":
        yield from _side_by_side(model, images, normalization)
        return
    for _, part in groupby(images, key=lambda image: image.part):
        for batch in by_size(part, images_a_call(device, batch_size)):
            yield _score_batch(model, batch, device, normalization)


def _side_by_side(model: nn.Module, images: Iterable[Waiting], normalization: str) -> Iterator[Scored]:
    """Scores one image a thread, and those that are too large for that alone; in the order of the stream."""
    threads, device = torch.get_num_threads(), torch.device("cpu")
    pending: deque[Future[Scored]] = deque()
    with single_threads(threads) as pool:
        for image in images:
            height, width = image.pixels.shape[-3:-1]
            is_large = threads_for(height * width, threads) > 1
            if not is_large:
                pending.append(pool.submit(_score_batch, model, [image], device, normalization))
            # One image waits for each thread, so that none is idle while the oldest result is handed over.
            while len(pending) > (0 if is_large else 2 * threads):
                yield pending.popleft().result()
            if is_large:
                yield _score_batch(model, [image], device, normalization)
        while pending:
            yield pending.popleft().result()


def _score_batch(model: nn.Module, batch: list[Waiting], device: torch.device, normalization: str) -> Scored:
    pixels_BVHWC = np.stack([image.pixels for image in batch])
    return [image.index for image in batch], mean_logits(model, pixels_BVHWC, device, normalization)


def _pixels(bucket: list[Waiting]) -> int:
    return sum(image.pixels.size // 3 for image in bucket)


def _is_full(bucket: list[Waiting], batch_size: int) -> bool:
    """Whether one more image would exceed the batch size or the pixels of a batch."""
    return len(bucket) >= batch_size or _pixels(bucket) // len(bucket) * (len(bucket) + 1) > BATCH_PIXELS
