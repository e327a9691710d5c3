"""Hands the hints of `pack.shard.hints` to pairs, and reads those that lie in a file beside the tar."""

from collections.abc import Sequence
from dataclasses import replace

from isal.isal_zlib import crc32

from pack.dataset.cache import BlockCache, block_key
from pack.dataset.index import ShardIndex
from pack.dataset.pairs import DamagedPair, Pairs, StoredPair
from pack.shard.hints import Hint, read_hints
from pack.shard.names import fake_name, hints_name
from pack.shard.verified_read import read_verified
from pack.storage import Store


class HintReader:
    """Gives pairs hints that lie beside their tar.

    Args:
        store: of the dataset.
        cache: where the hints of blocks are kept on local disk; None reads all from `store`.
    """

    def __init__(self, store: Store, cache: BlockCache | None) -> None:
        self._store, self._cache = store, cache

    def given(
        self, pairs: Pairs, index: ShardIndex, first: int, chosen: Sequence[int | None], until: float
    ) -> Pairs:
        """The same pairs with their hints; a pair whose hints the storage holds damaged counts as damaged.

        Args:
            pairs: successive pairs of a shard.
            index: of the shard; it has hints, beside its tar.
            first: number of the first of these pairs.
            chosen: of each pair, which of its fakes it has, None for all.
            until: deadline by the clock of `time.monotonic`.

        Raises:
            UserError: the file of hints is missing, short or replaced, or storage fails for too long.
        """
        parts = _Parts(index, first, len(pairs))
        data = memoryview(self._read(parts, hints_name(index.entry.name), until))
        records = [
            data[begin:end] if sound else None
            for (begin, end), sound in zip(parts.spans, parts.sound(data), strict=True)
        ]
        return list(map(with_hints, pairs, records, chosen))

    def record(self, index: ShardIndex, row: int, until: float) -> memoryview | None:
        """The record of one pair, in its tar or beside it; None if the storage holds it damaged."""
        parts = _Parts(index, row, 1)
        assert index.hints
        name = hints_name(index.entry.name) if index.hints.beside else f"{index.entry.name}.tar"
        data = memoryview(self._read(parts, name, until))
        return data if all(parts.sound(data)) else None

    def _read(self, parts: "_Parts", name: str, until: float) -> bytes | memoryview:
        """The bytes of the records, from the cache if it has them right."""
        if self._cache and (kept := self._cache.get(parts.key)) is not None:
            if len(kept) == parts.length and all(parts.sound(kept)):
                return kept
            self._cache.drop(parts.key)  # harmed on the local disk, or of another index
        data, whole = read_verified(
            lambda until: self._store.read_range(name, parts.start, parts.length, until=until),
            lambda data: all(parts.sound(data)),
            f"{self._store.url}/{name} bytes {parts.start}-{parts.start + parts.length - 1}",
            until,
        )
        if self._cache and whole:
            self._cache.put(parts.key, data)
        return data


class _Parts:
    """Where the records of successive pairs lie."""

    def __init__(self, index: ShardIndex, first: int, count: int) -> None:
        places = index.hints
        assert places
        columns = (places.offsets, places.sizes, places.crcs)
        offsets, sizes, self._crcs = (column[first : first + count].tolist() for column in columns)
        self.start = offsets[0]
        begins = [offset - self.start for offset in offsets]
        self.spans = [(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]
        """(begin, end) of each record within the bytes that are read."""
        self.length = self.spans[-1][1]
        self.key = f"{block_key(index.entry.sha256, first, count)}-hints"

    def sound(self, data: bytes | memoryview) -> list[bool]:
        """Whether the CRC-32 of each record is right."""
        view = memoryview(data)
        return [
            crc32(view[begin:end]) == crc for (begin, end), crc in zip(self.spans, self._crcs, strict=True)
        ]


def with_hints(
    pair: StoredPair | DamagedPair, record: memoryview | None, fake: int | None
) -> StoredPair | DamagedPair:
    """The pair with the hints of a record, which was found damaged if it is None.

    Args:
        pair: to have them.
        record: of the pair.
        fake: which of its fakes it has; None for all.
    """
    if isinstance(pair, DamagedPair):
        return pair
    if record is None:
        return DamagedPair(key=pair.key, url=pair.url, cause="CRC-32 of hints differs")
    return replace(pair, hints=named_hints(record, fake))


def named_hints(record: memoryview, fake: int | None) -> dict[str, Hint]:
    """The hints of a record by ``real``, ``fake``, ``fake2`` and so on; arguments as of `with_hints`."""
    real, *fakes = read_hints(record)
    if fake is not None:
        fakes = [fakes[fake]]
    return {"real": real} | {fake_name(number): hint for number, hint in enumerate(fakes)}
