"""Which images run together: padded sizes, and batches of one padded size.

Both are functions of the images' own sizes and their order alone, never of time or memory,
since kernels depend on the shape of a batch and reconstructions shall not depend on luck.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

BATCH_PIXELS = 1 << 22
"""Padded pixels of a batch of several images, at most, whatever the batch size: bounds the memory."""

PENDING_PIXELS = 1 << 26
"""Padded pixels of images that wait for others of their size, at most (about 200 MB as RGB).

Measured on 1,000 sizes of one side 640, the other 360 to 640, 8 a batch: 148 batches; with half of
this 251, with twice 147."""

_PARTS = 32  # padding stays below a side's 1/32; 640x480, 640x427, 612x612... share few sizes


class Bucket(NamedTuple):
    """What images must share to run in one batch."""

    height: int
    """Padded height in pixels."""
    width: int
    """Padded width in pixels."""
    which: int = 0
    """Number of the autoencoder, where there are several."""

    @property
    def pixels(self) -> int:
        """Pixels of one padded image."""
        return self.height * self.width


def bucket(height: int, width: int, multiple: int, which: int = 0) -> Bucket:
    """The bucket of an image, by its own size alone.

    Each side is rounded up to a step: the largest power of two times `multiple` that is at most
    1/32 of the side, and at least `multiple`.

    Args:
        height: of the image in pixels, at least 1.
        width: likewise.
        multiple: what the autoencoder needs padded sides to be a multiple of.
        which: number of the autoencoder.
    """
    return Bucket(_padded_side(height, multiple), _padded_side(width, multiple), which)


def batched(
    images: Iterable[T],
    bucket_of: Callable[[T], Bucket],
    batch_size: int,
    *,
    pending_pixels: int = PENDING_PIXELS,
) -> Iterator[list[T]]:
    """Yields lists of images of one bucket, in input order within a bucket; takes images one by one.

    A bucket is yielded as soon as it is full: `batch_size` images, or fewer where those exceed
    `BATCH_PIXELS`. Where more than `pending_pixels` wait, the bucket goes whose first image has
    waited longest. At the end the rest goes, in the order in which sizes appeared first.

    Args:
        images: anything that has a bucket.
        bucket_of: its bucket.
        batch_size: images a batch, at most.
        pending_pixels: padded pixels that wait, at most, when the next image is taken.
    """
    waiting: dict[Bucket, list[tuple[int, T]]] = {}
    pending = 0
    for position, image in enumerate(images):
        size = bucket_of(image)
        waiting.setdefault(size, []).append((position, image))
        pending += size.pixels
        if len(waiting[size]) < _capacity(size, batch_size):
            if pending <= pending_pixels:
                continue
            size = min((one for one in waiting if waiting[one]), key=lambda one: waiting[one][0][0])
        pending -= size.pixels * len(waiting[size])
        yield _emptied(waiting[size])
    yield from (_emptied(rest) for rest in waiting.values() if rest)


def _capacity(size: Bucket, batch_size: int) -> int:
    return max(1, min(batch_size, BATCH_PIXELS // size.pixels))


def _emptied(waiting: list[tuple[int, T]]) -> list[T]:
    """Its images; the list stays, so that its size keeps its place, and holds no image any more."""
    images = [image for _, image in waiting]
    waiting.clear()
    return images


def _padded_side(side: int, multiple: int) -> int:
    step = multiple
    while 2 * step * _PARTS <= side:
        step *= 2
    return -(-side // step) * step
