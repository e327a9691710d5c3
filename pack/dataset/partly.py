"""Reads pairs of local files whose large images are left unread until a part of one is asked for."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from isal.isal_zlib import crc32

from pack.dataset.hints import HintReader, named_hints
from pack.dataset.index import ShardIndex
from pack.dataset.pairs import StoredPair
from pack.dataset.unpacked import stored_pair
from pack.shard.hints import LARGE, PIECE, Hint, Pieces, read_pieces
from pack.shard.verified_read import read_verified
from pack.storage import Store

LARGE_PAIR = 2 * LARGE
"""Bytes of a pair from which on parts are worth the system calls that they take."""

Read = Callable[[int, int], memoryview]
"""Reads (start, length) of a file."""


class DamagedPieceError(Exception):
    """The storage holds a piece of an image damaged; the text is the member's name."""


class Ranged:
    """An image's file, read in pieces of `pack.shard.hints.PIECE` bytes when they are asked for.

    Each piece is checked by its CRC-32 before anybody gets it. What was read last is kept.

    Args:
        name: of the member, for errors.
        where: path and place of the file, for errors.
        size: bytes of the file.
        pieces: what its hint says of its pieces.
        read: reads bytes of it.
        until: gives the deadline of a read that begins now, by the clock of `time.monotonic`.
    """

    def __init__(
        self, name: str, where: str, size: int, pieces: Pieces, read: Read, until: Callable[[], float]
    ) -> None:
        self.name, self.size, self.scan = name, size, pieces.scan
        self._where, self._crcs, self._header = where, pieces.crcs, pieces.header
        self._read, self._until = read, until
        self._kept: tuple[int, memoryview] = 0, memoryview(b"")
        self.taken = 0
        """Bytes that were read so far."""

    def part(self, start: int, stop: int) -> tuple[int, memoryview]:
        """Bytes of the file that hold those from `start` up to `stop`, and where they begin.

        Raises:
            DamagedPieceError: the storage holds them damaged.
            UserError: the storage fails.
        """
        first, kept = self._kept
        if start < first or first + len(kept) < stop:
            self._kept = self._pieces(start // PIECE, -(-stop // PIECE))
        return self._kept

    def head(self) -> bytes:
        """A header of the file, which may lack metadata; see `part` if no hint has it."""
        return self._header or bytes(self.part(0, self.scan)[1][: self.scan])

    def whole(self) -> bytes:
        """The file; see `part`."""
        return bytes(self.part(0, self.size)[1])

    def _pieces(self, first: int, last: int) -> tuple[int, memoryview]:
        start, stop = first * PIECE, min(last * PIECE, self.size)

        def sound(data: memoryview) -> bool:
            crcs = [crc32(data[at : at + PIECE]) for at in range(0, len(data), PIECE)]
            return bool(crcs == self._crcs[first:last].tolist())

        data, right = read_verified(
            lambda _: self._read(start, stop - start), sound, self._where, self._until()
        )
        if not right:
            raise DamagedPieceError(self.name)
        self.taken += len(data)
        return start, data


class PartReader:
    """Reads pairs of local files.

    Args:
        store: of the dataset.
        hints: reads the hints that lie beside tars.
        until: gives the deadline of a read that begins now.
    """

    def __init__(self, store: Store, hints: HintReader, until: Callable[[], float]) -> None:
        self._store, self._hints, self._until = store, hints, until

    def read(self, index: ShardIndex, row: int, fake: int | None, url: str) -> StoredPair | None:
        """A pair whose images with known pieces are `Ranged`; None if what was read of it is damaged.

        Args:
            index: of the shard; it has hints.
            row: of the pair.
            fake: which of its fakes the pair is to have; None for all.
            url: of the tar.

        Raises:
            UserError: the shard is missing, short or replaced.
        """
        record = self._hints.record(index, row, self._until())
        if record is None:
            return None
        hints = named_hints(record, fake)
        members: dict[str, bytes] = {}
        ranged: dict[str, Ranged] = {}
        for column, field in index.columns_with(row, fake):
            data = self._member(index, row, column, hints.get(field.partition(".")[0]), url)
            if isinstance(data, Ranged):
                ranged[field] = data
            elif data is None:
                return None
            else:
                members[field] = data
        return replace(stored_pair(index, row, fake, url, members), ranged=ranged, hints=hints)

    def _member(
        self, index: ShardIndex, row: int, column: int, hint: Hint | None, url: str
    ) -> bytes | Ranged | None:
        offset, size = int(index.offsets[row, column]), int(index.sizes[row, column])
        name = f"{index.entry.name}.tar"
        if hint and hint.pieces:
            where = f"{url}: {index.members[column]} of {index.keys[row]}"
            read = partial(_read, self._store, name, offset)
            pieces = read_pieces(hint.pieces, size)
            return Ranged(index.members[column], where, size, pieces, read, self._until)
        data = self._store.read_range(name, offset, size)
        return bytes(data) if crc32(data) == index.crcs[row, column] else None


def _read(store: Store, name: str, offset: int, start: int, length: int) -> memoryview:
    return store.read_range(name, offset + start, length)
