"""Images ready for the detector: read and decoded on threads, ahead of the model."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from recon.base.cpus import ahead
from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels, as_rgb, decode
from train.evaluation.inputs.source import (
    LARGE,
    MISSING,
    SMALL,
    UNREADABLE,
    DamagedError,
    ImageSource,
    Lost,
    Read,
)
from train.evaluation.look import MAX_RESIZED, WHOLE, Look

_READERS = 16  # threads; most of them wait for storage

Blocks = Iterable[tuple[int, int]]
"""First image and number of images of each block that is read at once."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What is done to an image before it is scored.

    Not what ``--view`` names: that is a `Look`, and is taken of the result.
    """

    text: str
    """Tells the pixels: two views of one text do the same."""
    of: Callable[[Pixels, str], Pixels]
    """Makes (H, W, 3) uint8 of the decoded image and its name, and changes neither; RejectedImageError: it
    can't be done to this image. Called from several threads."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """How images are made ready for the model."""

    max_pixels: int
    """Larger images are left out."""
    look: Look = WHOLE
    """The part of each image that is scored, or the parts."""
    min_side: int = 1
    """Smaller images, or crops, are left out, since the normalisation can't take them."""
    threads: int = 1
    """That decode."""
    views: Sequence[View] = ()
    """What is made of each image, which is decoded once; none: it is scored as it is."""

    def pixels(self, read: Read) -> Pixels | Lost:
        """What the model gets of an image without views, or why it gets none."""
        return self.of_decoded(self.decoded(read))

    def decoded(self, read: Read) -> Pixels | Lost:
        """Decodes an image to (H, W, 3) uint8 RGB as it is stored, or tells why that can't be."""
        if isinstance(read, RejectedImageError):
            return Lost(kind=UNREADABLE if isinstance(read, DamagedError) else MISSING, cause=str(read))
        try:
            return _decoded(read, self.max_pixels)
        except _TooLargeError as error:
            return Lost(kind=LARGE, cause=str(error))
        except RejectedImageError as error:
            return Lost(kind=UNREADABLE, cause=str(error))

    def of_decoded(self, pixels: Pixels | Lost) -> Pixels | Lost:
        """The part of a decoded image that is scored; see `scored_part`."""
        return pixels if isinstance(pixels, Lost) else scored_part(pixels, self.look, self.min_side)

    def viewed(self, pixels: Pixels | Lost, view: View, name: str) -> Pixels | Lost:
        """What the model gets of a view of a decoded image, or why it gets none."""
        if isinstance(pixels, Lost):
            return pixels
        try:
            return self.of_decoded(view.of(pixels, name))
        except RejectedImageError as error:  # of one kind only: too many pixels, or a side too long
            return Lost(kind=LARGE, cause=str(error))


def scored_part(pixels: Pixels, look: Look, min_side: int) -> Pixels | Lost:
    """What is scored of an image, see `Look.of`; or why the model can't take it.

    Args:
        pixels: (H, W, 3) uint8.
        look: see `Ready.look`.
        min_side: see `Ready.min_side`.
    """
    height, width = look.resized(*pixels.shape[:2])
    if look.size and height * width > MAX_RESIZED:
        shown = f"{pixels.shape[1]}x{pixels.shape[0]}, resized to {width}x{height}"
        return Lost(kind=LARGE, cause=f"{shown}, which has more than {MAX_RESIZED:,} pixels")
    pixels = look.of(pixels)
    height, width = pixels.shape[-3:-1]
    if min(height, width) < min_side:
        cause = f"{width}x{height}, the model's normalisation needs {min_side}x{min_side}"
        return Lost(kind=SMALL, cause=cause)
    return pixels


class _TooLargeError(RejectedImageError):
    """An image of too many pixels."""


def ready(
    source: ImageSource, blocks: Blocks, how: Ready, chosen: Container[int] | None = None
) -> Iterator[tuple[int, Pixels | Lost]]:
    """Reads and decodes images on threads, a few images ahead of the caller.

    Args:
        source: the images.
        blocks: which of them, in this order; blocks of the source itself.
        how: see `Ready`.
        chosen: places of the images to decode; None: all of the blocks.

    Yields:
        The place in the source, and the pixels; or why there are none. Where there are views, the number of
        the outcome: the place times the number of views, and that of the view.

    Raises:
        UserError: storage fails, so that it can't be known what the image is.
    """
    with (
        ThreadPoolExecutor(_READERS, "read") as readers,
        ThreadPoolExecutor(how.threads, "decode") as decoders,
    ):
        # Blocks of many images are large, and few of them are enough.
        read = ahead(readers, partial(_block, source), blocks, _READERS if source.blocks is None else 2)
        single = (image for block in read for image in block if chosen is None or image[0] in chosen)
        if not how.views:
            yield from ahead(decoders, partial(_image, how), single, 2 * how.threads)
            return
        # Views wait one by one, since those of one image may be much larger than the image together.
        decoded = ahead(decoders, partial(_decoded_image, how), single, 2 * how.threads)
        views = ((image, number) for image in decoded for number in range(len(how.views)))
        yield from ahead(decoders, partial(_view, how, source), views, 2 * how.threads)


def _block(source: ImageSource, block: tuple[int, int]) -> list[tuple[int, Read]]:
    return list(enumerate(source.read(*block), block[0]))


def _image(how: Ready, image: tuple[int, Read]) -> tuple[int, Pixels | Lost]:
    return image[0], how.pixels(image[1])


def _decoded_image(how: Ready, image: tuple[int, Read]) -> tuple[int, Pixels | Lost]:
    return image[0], how.decoded(image[1])


def _view(
    how: Ready, source: ImageSource, seen: tuple[tuple[int, Pixels | Lost], int]
) -> tuple[int, Pixels | Lost]:
    (place, pixels), number = seen
    found = how.viewed(pixels, how.views[number], source.listed[place].name)
    return place * len(how.views) + number, found


def _decoded(data: bytes, max_pixels: int) -> Pixels:
    def refuse(height: int, width: int) -> None:
        if height * width > max_pixels:
            raise _TooLargeError(f"{width}x{height} exceeds max_pixels={max_pixels}; raise --max_pixels")

    # `decode` has a limit too, but its error is not told from others; here it is that of no file's format.
    return as_rgb(decode(data, max_pixels=1 << 62, convert=True, on_size=refuse).pixels)
