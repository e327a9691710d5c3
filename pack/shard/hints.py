"""The hints of a pair: what lets readers decode a part of its images alone.

A record holds for each image, ``real``, ``fake``, ``fake2`` and so on, two lengths (uint32, little-endian),
then its entry points and its colours. Length 0 stands for None.

Packing writes a record as the last member of its sample, so that it comes with the pair. Beside tars that
were written before lies a file ``NAME.hints`` instead: `MAGIC`, then the records in the order of the index.
The index has the place and the CRC-32 of each. They don't lie in the index itself: they take ten times its
bytes, and a reader needs those of the pairs that it is about to decode, not those of all.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from isal.isal_zlib import crc32

from pack.storage import Store

MAGIC = b"pairstream hints/1\n"
"""How such a file begins."""

_LENGTHS = struct.Struct("<II")


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What is known of an image, so that a part of it is enough to train on."""

    entries: bytes | None
    """Where decoding can begin, for `recon.jpeg.entries.read_entries`; None if the whole must be decoded."""
    colours: bytes | None
    """For `recon.image.colours.read_colours`; None if unknown."""


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
    parts = [(hint.entries or b"", hint.colours or b"") for hint in hints]
    return b"".join(_LENGTHS.pack(len(one), len(other)) + one + other for one, other in parts)


def read_hints(record: bytes | memoryview) -> list[Hint]:
    """The hints of a pair's images in a record whose CRC-32 was right."""
    hints, place = [], 0
    while place < len(record):
        first, second = _LENGTHS.unpack_from(record, place)
        middle = place + _LENGTHS.size + first
        place = middle + second
        entries, colours = bytes(record[middle - first : middle]), bytes(record[middle:place])
        hints.append(Hint(entries=entries or None, colours=colours or None))
    return hints
