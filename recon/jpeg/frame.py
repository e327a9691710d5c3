"""Reads the header of a JPEG as far as decoding a part of it needs (ITU-T T.81, B.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recon.image.formats.segments import SCAN, Segment, segments
from recon.kernels.entropy import NATURAL
from recon.kernels.huffman import LOOK, SLOW, build_table

_BASELINE = (0xC0, 0xC1)  # SOF0, SOF1: sequential, Huffman
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_HUFFMAN, _QUANTISATION, _RESTART, _JFIF, _ADOBE = 0xC4, 0xDB, 0xDD, 0xE0, 0xEE
_TABLES = (*_FRAMES, _HUFFMAN, _QUANTISATION, _RESTART, SCAN)
_NAMES = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe"}  # with which the content of these segments begins
_SAMPLINGS = ((1, 1), (2, 1), (1, 2), (2, 2))  # of luma, across and down; chroma has one sample for each


@dataclass(frozen=True, eq=False)
class Huffman:
    """The tables of a file: DC 0..3, then AC 0..3; see `recon.kernels.huffman.build_table`."""

    fast: NDArray[np.int32]
    slow: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """What the header says of a baseline JPEG, grey or YCbCr, with all components in one scan."""

    height: int
    width: int
    across: int
    """Pixels of a row for each sample of chroma, 1 or 2; 1 for a grey image."""
    down: int
    """The same for a column."""
    steps: tuple[NDArray[np.int32], ...]
    """(64,) of quantisation, in natural order, of each component."""
    tables: tuple[tuple[int, int], ...]
    """Of each component: its Huffman tables of DC and AC in `huffman`."""
    huffman: Huffman
    scan: int
    """The first compressed byte."""
    restart: int
    """MCUs from one restart marker to the next; 0: there are none."""

    @property
    def components(self) -> int:
        """1 (grey) or 3."""
        return len(self.steps)

    @property
    def mcus(self) -> tuple[int, int]:
        """How many MCUs a column has, and a row."""
        return -(-self.height // (8 * self.down)), -(-self.width // (8 * self.across))

    @property
    def chroma_size(self) -> tuple[int, int]:
        """Height and width of Cb and Cr in samples."""
        return -(-self.height // self.down), -(-self.width // self.across)

    @property
    def is_narrow(self) -> bool:
        """Whether chroma has so few columns that libjpeg repeats its samples, down and across."""
        return self.across == 2 and self.chroma_size[1] <= 2


def read_frame(data: bytes) -> Frame | None:
    """Reads the header of a JPEG.

    Returns:
        None if the file is no JPEG, or one that can't be decoded in part: progressive, arithmetic, several
        scans, RGB, CMYK, other samplings than 4:4:4, 4:2:2, 4:4:0, 4:2:0; or if its header is damaged.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        return _read(data)
    except (LookupError, ValueError):
        return None


def bare_header(data: bytes) -> bytes:
    """A JPEG of those segments alone that `read_frame` needs, up to the scan: without metadata."""
    # Of JFIF the name is enough: its thumbnail may have 64 KB.
    found = [b"\xff\xe0\0\x07JFIF\0" if one[0] == _JFIF else data[one[1] : one[2]] for one in _needed(data)]
    return data[:2] + b"".join(found)


def _needed(data: bytes) -> Iterator[Segment]:
    """The segments that say how to decode, up to the scan."""
    for segment in segments(data):
        marker, start, end = segment
        if marker in _TABLES or (marker in _NAMES and data.startswith(_NAMES[marker], start + 4, end)):
            yield segment
        if marker == SCAN:
            return


def _read(data: bytes) -> Frame | None:
    frame, quantisation, huffman, restart, colour = b"", b"", b"", 0, None
    for marker, start, end in _needed(data):
        content = data[start + 4 : end]
        if marker == SCAN:
            return _frame(frame, quantisation, huffman, restart, colour, content, end)
        if marker in _FRAMES:
            if frame or marker not in _BASELINE:
                return None
            frame = content
        elif marker == _QUANTISATION:
            quantisation += content
        elif marker == _HUFFMAN:
            huffman += content
        elif marker == _RESTART:
            restart = int.from_bytes(content[:2], "big")
        elif marker == _JFIF:
            colour = True
        elif colour is None:  # Adobe's
            colour = content[11] == 1
    return None


def _frame(
    frame: bytes,
    quantisation: bytes,
    huffman: bytes,
    restart: int,
    colour: bool | None,
    scan: bytes,
    end: int,
) -> Frame | None:
    """Puts the parts of a header together; `colour` says whether they are known to be YCbCr."""
    bits, count = frame[0], frame[5]
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    parts = [frame[6 + 3 * number : 9 + 3 * number] for number in range(count)]
    chosen = [scan[1 + 2 * number : 3 + 2 * number] for number in range(count)]
    names = bytes(part[0] for part in parts)
    is_whole = scan[0] == count and names == bytes(one[0] for one in chosen) and scan[-3:] == b"\x00\x3f\x00"
    if bits != 8 or count not in (1, 3) or not is_whole or not height or not width:
        return None
    if count == 3 and not (names == b"\1\2\3" if colour is None else colour):
        return None
    samplings = [(part[1] >> 4, part[1] & 15) for part in parts]
    # The only component of a scan is not interleaved, whatever its sampling factors.
    luma = (1, 1) if count == 1 else samplings[0]
    if luma not in _SAMPLINGS or any(one != (1, 1) for one in samplings[1:]):
        return None
    steps = _steps(quantisation)
    return Frame(
        height=height,
        width=width,
        across=luma[0],
        down=luma[1],
        steps=tuple(steps[part[2]] for part in parts),
        tables=tuple((one[1] >> 4 & 3, 4 + (one[1] & 3)) for one in chosen),
        huffman=_huffman(huffman),
        scan=end,
        restart=restart,
    )


@lru_cache(maxsize=256)  # many photographs share their tables
def _steps(content: bytes) -> dict[int, NDArray[np.int32]]:
    """Quantisation steps by the table's number; the last of a number holds."""
    steps, place = {}, 0
    while place < len(content):
        wide = content[place] >> 4
        values = np.frombuffer(content, ">u2" if wide else "u1", 64, place + 1)
        table = np.empty(64, np.int32)
        table[NATURAL] = values
        steps[content[place] & 15] = table
        place += 1 + 64 * (2 if wide else 1)
    return steps


@lru_cache(maxsize=256)
def _huffman(content: bytes) -> Huffman:
    tables = Huffman(np.zeros(8 << LOOK, np.int32), np.full((8, SLOW), -1, np.int64))
    for kind, counts, symbols in _definitions(content):
        number = (kind >> 4 & 1) * 4 + (kind & 3)
        build_table(counts, symbols, tables.fast[number << LOOK : number + 1 << LOOK], tables.slow[number])
    return tables


def _definitions(content: bytes) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Class and number, counts, and symbols of each Huffman table."""
    place = 0
    while place < len(content):
        counts = np.frombuffer(content, np.uint8, 16, place + 1)
        total = int(counts.sum())
        # More symbols than there are, or more codes of a length than it has, are refused here.
        if total > 256 or (counts.astype(np.int64) > 1 << np.arange(1, 17)).any():
            raise ValueError("no Huffman table")
        yield content[place], counts, np.frombuffer(content, np.uint8, total, place + 17)
        place += 17 + total
