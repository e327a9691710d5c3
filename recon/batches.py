"""Which images run together: padded sizes, and batches of one padded size.

Both depend only on the sizes and the order of the images, never on time or free memory. Kernels depend on
the shape of a batch: with other batches, a second run could give other pixels.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

BATCH_PIXELS = 1 << 22
"""Most padded pixels in a batch of several images, whatever the batch size; this limits the memory."""

PENDING_PIXELS = 1 << 26
"""Most padded pixels of images that wait for others of their size (about 200 MB as RGB).

Measured on 1,000 images, one side 640, the other 360 to 640, 8 images a batch: 148 batches; with half
of this limit 251 batches, with twice the limit 147."""

# Padding stays below 1/32 of a side, and common sizes (640x480, 640x427, 612x612...) share few padded sizes.
_PARTS = 32


class Bucket(NamedTuple):
    """What the images of one batch have in common."""

    height: int
    """Padded height in pixels."""
    width: int
    """Padded width in pixels."""
    which: int = 0
    """Number of the autoencoder, if there are several."""

    @property
    def pixels(self) -> int:
        """Pixels of one padded image."""
        return self.height * self.width


def bucket(height: int, width: int, multiple: int, which: int = 0) -> Bucket:
    """Returns the bucket of an image, which depends on its own size alone.

    Each side is rounded up to a step: the largest power of two times `multiple` that is at most
    1/32 of the side, and at least `multiple`.

    Args:
        height: of the image in pixels, at least 1.
        width: of the image in pixels, at least 1.
        multiple: padded sides are multiples of this, because the autoencoder needs them to be.
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
    """Yields lists of images of one bucket, in input order; takes images from `images` one by one.

    A bucket is yielded as soon as it is full: when it holds `batch_size` images, or as many as fit into
    `BATCH_PIXELS`. If more than `pending_pixels` wait, the bucket whose first image has waited longest is
    yielded. At the end the other buckets are yielded, in the order in which their sizes appeared first.

    Args:
        images: anything that has a bucket.
        bucket_of: returns the bucket of an image.
        batch_size: largest number of images in a batch.
        pending_pixels: most padded pixels that may wait when the next image is taken.
    """
    waiting: dict[Bucket, list[tuple[int, T]]] = {}
    pending = 0
    # A bucket stays in `waiting` when it is emptied: the last loop needs the order of first appearance.
    for position, image in enumerate(images):
        size = bucket_of(image)
        waiting.setdefault(size, []).append((position, image))
        pending += size.pixels
        if len(waiting[size]) < _capacity(size, batch_size):
            if pending <= pending_pixels:
                continue
            # Without this, the images of rare sizes would stay in memory until the end.
            size = min((one for one in waiting if waiting[one]), key=lambda one: waiting[one][0][0])
        pending -= size.pixels * len(waiting[size])
        yield _emptied(waiting[size])
    yield from (_emptied(rest) for rest in waiting.values() if rest)


def _capacity(size: Bucket, batch_size: int) -> int:
    return max(1, min(batch_size, BATCH_PIXELS // size.pixels))


def _emptied(waiting: list[tuple[int, T]]) -> list[T]:
    """Returns the images and clears the list, so that nothing keeps them in memory."""
    images = [image for _, image in waiting]
    waiting.clear()
    return images


def _padded_side(side: int, multiple: int) -> int:
    step = multiple
    while 2 * step * _PARTS <= side:
        step *= 2
    return -(-side // step) * step  # rounded up
