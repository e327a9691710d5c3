"""The hints of a pair: what lets readers decode a part of its images alone.

A record holds for each image, ``real``, ``fake``, ``fake2`` and so on, three lengths (uint32, little-endian),
then its entry points, its colours and its pieces. Length 0 stands for None.

Packing writes a record as the last member of its sample, so that it comes with the pair. Beside tars that
were written before lies a file ``NAME.hints`` instead: `MAGIC`, then the records in the order of the index.
The index has the place and the CRC-32 of each. They don't lie in the index itself: they take ten times its
bytes, and a reader needs those of the pairs that it is about to decode, not those of all.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from pack.storage import Store

MAGIC = b"pairstream hints/1\n"
"""How such a file begins."""

PIECE = 16 << 10
"""Bytes of each piece of a file that has a CRC-32 of its own."""

LARGE = 256 << 10
"""Bytes of a file from which on its pieces are listed: smaller ones are read at once."""

_LENGTHS = struct.Struct("<III")


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What is known of an image, so that a part of it is enough to train on."""

    entries: bytes | None
    """Where decoding can begin, for `recon.jpeg.entries.open_entries`; None if the whole must be decoded."""
    colours: bytes | None
    """For `recon.image.colours.read_colours`; None if unknown."""
    pieces: bytes | None = None
    """For `read_pieces`; None for small files, and for those without entry points."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What lets readers read and check a part of a file alone."""

    scan: int
    """The first compressed byte of a JPEG."""
    crcs: NDArray[np.uint32]
    """(n,) CRC-32 of each `PIECE` bytes of the file; the last piece may be shorter."""
    header: bytes
    """What `recon.jpeg.frame.bare_header` made of the file, and up to 3 zeros; empty in what earlier versions
    wrote."""


def is_hint_file(store: Store, name: str) -> bool:
    """Whether a file was written by `HintFile`."""
    return store.head(name, len(MAGIC)) == MAGIC


class HintFile:
    """Collects the records of the pairs of a tar that has none itself."""

    def __init__(self) -> None:
        self._data = bytearray(MAGIC)

    def add(self, hints: Sequence[Hint]) -> dict[str, int]:
        """Appends the record of a pair.

        Args:
            hints: of ``real``, ``fake``, ``fake2`` and so on.

        Returns:
            Its place, for the index: ``offset``, ``size``, ``crc32``.
        """
        offset, record = len(self._data), packed_hints(hints)
        self._data += record
        return {"offset": offset, "size": len(record), "crc32": crc32(record)}

    def to_bytes(self) -> bytes:
        """The file."""
        return bytes(self._data)


def packed_hints(hints: Sequence[Hint]) -> bytes:
    """A record."""
    parts = [(hint.entries or b"", hint.colours or b"", hint.pieces or b"") for hint in hints]
    return b"".join(_LENGTHS.pack(*map(len, own)) + b"".join(own) for own in parts)


def read_hints(record: bytes | memoryview) -> list[Hint]:
    """The hints of a pair's images in a record whose CRC-32 was right."""
    hints, place = [], 0
    while place < len(record):
        lengths = _LENGTHS.unpack_from(record, place)
        ends = accumulate(lengths, initial=place + _LENGTHS.size)
        own = [bytes(record[first:last]) or None for first, last in pairwise(ends)]
        hints.append(Hint(entries=own[0], colours=own[1], pieces=own[2]))
        place += _LENGTHS.size + sum(lengths)
    return hints


def pieces_of(data: bytes, scan: int, header: bytes) -> bytes:
    """What `read_pieces` reads.

    Args:
        data: the file.
        scan: its first compressed byte.
        header: see `Pieces`.
    """
    view = memoryview(data)
    numbers = [scan, *(crc32(view[at : at + PIECE]) for at in range(0, len(data), PIECE))]
    # Versions that know of no header take all for CRCs, of which they look at the first.
    return np.array(numbers, "<u4").tobytes() + header + bytes(-len(header) % 4)


def read_pieces(packed: bytes, size: int) -> Pieces:
    """The pieces of a file of so many bytes, from their bytes, whose CRC-32 was right."""
    end = _before_header(size)
    scan, *_ = numbers = np.frombuffer(packed[:end], "<u4")
    return Pieces(scan=int(scan), crcs=numbers[1:], header=packed[end:])


def equal_pieces(found: bytes | None, expected: bytes | None, size: int) -> bool:
    """Whether packed pieces of a file are as expected; its header may lack, see `Pieces`."""
    return found == expected or bool(found and expected and found == expected[: _before_header(size)])


def _before_header(size: int) -> int:
    """The bytes of packed pieces before the header: the scan's place, and a CRC-32 for each piece."""
    return 4 + 4 * -(-size // PIECE)
