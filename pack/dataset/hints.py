"""Hands the hints of `pack.shard.hints` to pairs, and reads those that lie in a file beside the tar."""

from collections.abc import Sequence
from dataclasses import replace

from pack.dataset.cache import BlockCache, block_key
from pack.dataset.index import HintPlaces, ShardIndex
from pack.dataset.pairs import DamagedPair, Pairs, StoredPair
from pack.shard.hints import MAGIC, Hint, read_hints
from pack.shard.names import fake_name, hints_name
from pack.shard.verified_read import read_verified
from pack.storage import Store
from recon.base.errors import UnreachableError, UserError


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
        records = self._records(index, range(first, first + len(pairs)), until)
        return list(map(with_hints, pairs, records, chosen))

    def record(self, index: ShardIndex, row: int, until: float) -> memoryview | None:
        """The record of one pair, in its tar or beside it; None if the storage holds it damaged."""
        return self._records(index, range(row, row + 1), until)[0]

    def _records(self, index: ShardIndex, rows: range, until: float) -> list[memoryview | None]:
        """The records of successive pairs, from the cache if it has them right; None for a damaged one."""
        places = index.hints
        assert places
        key = f"{block_key(index.entry.sha256, rows.start, len(rows))}-hints"
        name = hints_name(index.entry.name) if places.beside else f"{index.entry.name}.tar"
        start, last = int(places.offsets[rows.start]), rows[-1]
        length = int(places.offsets[last] + places.sizes[last]) - start

        def records(data: bytes | memoryview) -> list[memoryview | None]:
            return [places.record(row, memoryview(data), start) for row in rows]

        def read(until: float) -> tuple[memoryview, list[memoryview | None]]:
            data = self._read(name, start, length, until, is_beside=places.beside)
            return data, records(data)

        if self._cache and (kept := self._cache.get(key)) is not None:
            if len(kept) == length and None not in (found := records(kept)):
                return found
            self._cache.drop(key)  # harmed on the local disk, or of another index
        where = f"{self._store.url}/{name} bytes {start}-{start + length - 1}"
        (data, found), whole = read_verified(read, lambda one: None not in one[1], where, until)
        if self._cache and whole:
            self._cache.put(key, data)
        return found

    def _read(self, name: str, start: int, length: int, until: float, *, is_beside: bool) -> memoryview:
        try:
            return self._store.read_range(name, start, length, until=until)
        except UnreachableError:
            raise
        except UserError as error:
            if not is_beside:
                raise
            raise type(error)(f"{error}; {cure(self._store.url)}") from error


def cure(url: str) -> str:
    """What to do about hints beside a tar that are lost or damaged."""
    return f"python -m pack.index {url} --entries writes it anew"


def faults_of_file(data: bytes, places: HintPlaces) -> list[str]:
    """What is wrong with the file beside a tar as a whole; its records have CRCs of their own."""
    faults = [f"{len(data)} bytes, the index says {places.end}"] if len(data) != places.end else []
    return faults + ([] if data.startswith(MAGIC) else [f"it does not begin with {MAGIC!r}"])


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
