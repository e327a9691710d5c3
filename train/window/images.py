"""The images of a sample, of which no more is decoded than somebody asks for."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from pack.dataset.partly import Ranged
from pack.shard.hints import Hint
from recon.image.codec import Pixels, decode_rgb
from recon.image.colours import EQUAL, Colours, Weights, colours_of, palette, read_colours
from train.draws.boxes import Box

if TYPE_CHECKING:
    from recon.jpeg.coefficients import Coefficients, Entries
    from recon.jpeg.entries import PackedEntries
    from recon.jpeg.frame import Frame

DEARER = 1.5
"""How many times as long a pixel takes when a part is decoded from an entry point as when libjpeg-turbo
decodes the whole: 1.4 over COCO and camera photographs, entropy decoding and the rest together."""

ENTROPY_ALONE = 0.9
"""The same where the device does the rest."""


class UndecodableError(Exception):
    """The bytes of an image can't be decoded; the text is the member's name."""


Palette = tuple[Pixels, Weights]
"""(64, 3) colours of `recon.image.colours`, and (64,) for how much of the image each of them stands."""


class Watch(Protocol):
    """Is told what decoding does: `train.bench` measures it."""

    def timer(self, name: str) -> AbstractContextManager[object]:
        """Around each ``entropy`` decoding, computation of ``pixels``, and ``decode`` of a whole image."""
        ...

    def decoded(self, share: float) -> None:
        """Which share of an image was decoded, 0 to 1; its MCUs count."""
        ...


class Unwatched:
    """Ignores it."""

    def timer(self, _: str) -> AbstractContextManager[object]:
        """Does nothing."""
        return nullcontext()

    def decoded(self, _: float) -> None:
        """Does nothing."""


UNWATCHED = Unwatched()


class Image(Protocol):
    """An image of (height, width, 3)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def part(self, box: Box) -> Pixels:
        """The pixels of (top, left, height, width), which is not empty and lies inside; not to be changed."""
        ...

    def palette(self) -> Palette:
        """Its colours."""
        ...


class Source(Image, Protocol):
    """An image of which a part can be resized."""

    def colours(self) -> Colours:
        """Which colours it has, and where."""
        ...

    @property
    def is_partial(self) -> bool:
        """Whether a part can be decoded without the rest."""
        ...


class Decoded:
    """An image that is decoded already.

    Args:
        pixels: (H, W, 3) uint8.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def part(self, box: Box) -> Pixels:
        """A view of the image."""
        top, left, height, width = box
        return self.pixels[top : top + height, left : left + width]

    def palette(self) -> Palette:
        """Computed from the pixels."""
        return palette(self.pixels), EQUAL

    def colours(self) -> Colours:
        """Computed from the pixels."""
        return colours_of(self.pixels)

    @property
    def is_partial(self) -> bool:
        """Never: all is decoded already."""
        return False


class Stored:
    """An image as its dataset stores it.

    With entry points, a part is decoded alone where that is faster than to decode all; the pixels are the
    same. Without them, all is decoded at once.

    Args:
        data: the file, which may be read in parts.
        name: of the member, for errors.
        hint: what the dataset knows of it.
        parts: how many parts of about the same size will be asked for.
        watch: see `Watch`.

    Raises:
        UndecodableError: the file is broken. Later calls raise it and the next too.
        DamagedPieceError: the storage holds a piece of it damaged.
    """

    def __init__(
        self, data: bytes | Ranged, name: str, hint: Hint | None, parts: int = 1, watch: Watch = UNWATCHED
    ) -> None:
        self.data, self.name, self.parts, self._watch = data, name, parts, watch
        self._packed_colours = hint.colours if hint else None
        self._whole: Decoded | None = None
        self._partly = _partly_decodable(data, hint) if hint and hint.entries else None
        if self._partly is None:
            self._decode()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if self._whole:
            return self._whole.size
        assert self._partly
        return self._partly.frame.height, self._partly.frame.width

    def part(self, box: Box) -> Pixels:
        """The pixels of a part, decoded alone or cut out of all."""
        coded = self.coefficients(box)
        if coded is None:
            return self._decode().part(box)
        with self._watch.timer("pixels"):
            return coded.pixels()

    def coefficients(self, box: Box, dearer: float = DEARER) -> "Coefficients | None":
        """The coefficients of a part; None where all is decoded, or must be, or that is faster.

        Args:
            box: as in `part`.
            dearer: `DEARER` or `ENTROPY_ALONE`.
        """
        if self._whole or self._partly is None:
            return None
        from recon.jpeg.coefficients import UndecodedError, coefficients, share

        packed, frame = self._partly, self._partly.frame
        decoded = share(frame, packed.step, box)
        if decoded * self.parts * dearer > 1:
            return None
        self._watch.decoded(decoded)
        try:
            with self._watch.timer("entropy"):
                entries = packed.until(box)
                first, data = self._part(frame, entries, box)
                return coefficients(data, frame, entries, box, first)
        except UndecodedError:  # libjpeg-turbo decides whether the file or the hint is wrong
            self._decode()
            return None

    def _part(self, frame: "Frame", entries: "Entries", box: Box) -> tuple[int, bytes | memoryview]:
        """As much of the file as the part needs, and where that begins."""
        if isinstance(self.data, bytes):
            return 0, self.data
        from recon.jpeg.coefficients import scan_part

        return self.data.part(*scan_part(frame, entries, box, self.data.size))

    @cached_property
    def _colours(self) -> Colours | None:
        """As the dataset has them: only contrast asks."""
        return read_colours(self._packed_colours) if self._packed_colours else None

    def palette(self) -> Palette:
        """As the dataset has it, or computed from the pixels."""
        return (self._colours.palette, EQUAL) if self._colours else self._decode().palette()

    def colours(self) -> Colours:
        """As the dataset has them, or computed from the pixels."""
        return self._colours or self._decode().colours()

    @property
    def is_partial(self) -> bool:
        """Whether it has entry points."""
        return self._partly is not None

    def _decode(self) -> Decoded:
        if self._whole is None:
            self._watch.decoded(1)
            data = self.data if isinstance(self.data, bytes) else self.data.whole()
            try:
                with self._watch.timer("decode"):
                    self._whole = Decoded(decode_rgb(data))
            except MemoryError:  # of this machine, no damage of the pair
                raise
            except Exception as error:  # Pillow's decoders let struct, zlib, EOF and index errors through
                raise UndecodableError(self.name) from error
        return self._whole


def _partly_decodable(data: bytes | Ranged, hint: Hint) -> "PackedEntries | None":
    """The entry points of a file that has such."""
    from recon.jpeg.entries import open_entries  # imports numba, which other datasets don't need
    from recon.jpeg.frame import read_frame

    if isinstance(data, bytes):
        frame = read_frame(data)
    elif frame := read_frame(data.head()):
        frame = replace(frame, scan=data.scan)  # a header without metadata is shorter
    assert hint.entries
    return open_entries(hint.entries, frame) if frame else None
