"""A packed dataset, opened for reading: its manifest, its indexes, its blocks of pairs."""

import hashlib
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pack.dataset.cache import BlockCache, block_key
from pack.dataset.hints import HintReader
from pack.dataset.index import ShardIndex, shard_index
from pack.dataset.pairs import DamagedPair, Pairs, StoredPair, sound
from pack.dataset.partly import LARGE_PAIR, PartReader
from pack.dataset.unpacked import unpacked
from pack.shard.index import read_index, unlike_manifest
from pack.shard.manifest import Manifest, read_manifest
from pack.shard.schema import refuse_new
from pack.shard.verified_read import read_verified
from pack.storage import LocalStore, Retry, Store, open_store

_CACHED_BYTES = 64 << 20  # of index rows kept in memory
_LOCAL_BYTES = 8 << 20  # read at once from a local file: for more the system clears memory anew each time
_GAP_BYTES = 128 << 10  # read and dropped rather than left out by a second request: some 2 ms at 60 MB/s


class Dataset:
    """A dataset at a directory or URL. Opening reads the manifest alone.

    Args:
        url: directory or URL that holds ``dataset.json``.
        retry: how long failing storage is asked again.
        cache: where blocks are kept on local disk; None reads all from `url`.
        manifest: of the dataset, where the caller has it already.
        hints: give pairs their hints, if the dataset has such. Where they lie beside the tars, each block
            takes a second, small request.
        partly: leave large images of local files unread until a part of one is asked for; these members are
            `pack.dataset.partly.Ranged`. Needs hints.

    Raises:
        UserError: there is no finished dataset of this version.
    """

    def __init__(
        self,
        url: str,
        *,
        retry: Retry | None = None,
        cache: BlockCache | None = None,
        manifest: Manifest | None = None,
        hints: bool = False,
        partly: bool = False,
    ) -> None:
        self.store: Store = open_store(url, retry or Retry())
        self.cache = cache
        self.piece_bytes = _LOCAL_BYTES if isinstance(self.store, LocalStore) else sys.maxsize
        self.manifest: Manifest = manifest or read_manifest(self.store)
        self._indexes: OrderedDict[int, ShardIndex] = OrderedDict()
        self._with_hints, self._hints = hints, HintReader(self.store, cache)
        self._parts: PartReader | None = None
        if hints and partly and cache is None and isinstance(self.store, LocalStore):
            self._parts = PartReader(self.store, self._hints, self._deadline)
        self._coming: dict[int, Future[ShardIndex]] = {}
        self._lock = threading.Lock()

    def tar_url(self, shard: int) -> str:
        """Where a shard's tar lies."""
        return f"{self.store.url}/{self.manifest.shards[shard].name}.tar"

    def index(self, shard: int) -> ShardIndex:
        """The index of a shard, by its number in the manifest, from a cache bounded in bytes."""
        # Reading threads come to a new shard together. The first of them reads its index, without the lock;
        # the others wait for that, or they would all read it.
        with self._lock:
            if shard in self._indexes:
                self._indexes.move_to_end(shard)
                return self._indexes[shard]
            is_first = shard not in self._coming
            coming = self._coming.setdefault(shard, Future())
        if is_first:
            self._bring(shard, coming)
        return coming.result()

    def _bring(self, shard: int, coming: "Future[ShardIndex]") -> None:
        """Reads an index for all threads that wait for it, and keeps it."""
        try:
            index = self._read_index(shard)
        except BaseException as error:  # whatever it is, no thread may wait for ever
            with self._lock:
                del self._coming[shard]
            coming.set_exception(error)
            return
        with self._lock:
            del self._coming[shard]
            self._indexes[shard] = index
            # At least the newest stays, however large: it is about to be used.
            while len(self._indexes) > 1 and sum(i.memory for i in self._indexes.values()) > _CACHED_BYTES:
                self._indexes.popitem(last=False)
        coming.set_result(index)

    def _read_index(self, shard: int) -> ShardIndex:
        return shard_index(
            self.manifest.shards[shard], self.table(shard), hints_beside=self.manifest.hints_beside
        )

    def table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The index of a shard with all its columns, or some, checked against the manifest.

        Raises:
            UserError: it is missing, or differs from the manifest; or it is of an older format, which has not
                all of `columns`.
        """
        refuse_new(columns or [], self.manifest.format, self.store.url)
        entry = self.manifest.shards[shard]
        name = f"{entry.name}.parquet"

        def is_whole(data: bytes) -> bool:
            return hashlib.sha256(data).hexdigest() == entry.index_sha256

        data, whole = read_verified(
            lambda until: self.store.read(name, until=until),
            is_whole,
            f"{self.store.url}/{name}",
            self._deadline(),
        )
        if not whole:
            raise unlike_manifest(data, entry, self.store.url)
        return read_index(data, columns)

    def _deadline(self) -> float:
        """When a block, an index or a manifest that is asked for now must have come."""
        return time.monotonic() + self.store.retry.deadline_s

    def read_rows(self, shard: int, rows: NDArray[np.int64], fakes: NDArray[np.int64] | None = None) -> Pairs:
        """Reads some pairs of a shard; pairs that lie near each other in one request.

        Args:
            shard: its number in the manifest.
            rows: (n,) rising numbers of pairs within the shard.
            fakes: (n,) which of several fakes each pair is to have alone; None gives all.

        Raises:
            UserError: see `read_block`.
        """
        pairs: Pairs = []
        for near in self.index(shard).near(rows, _GAP_BYTES):
            first, count = int(near[0]), int(near[-1] - near[0]) + 1
            chosen = None
            if fakes is not None:
                chosen = np.zeros(count, np.int64)
                chosen[near - first] = fakes[len(pairs) : len(pairs) + len(near)]
            block = self.read_block(shard, first, count, chosen)
            pairs += [block[row - first] for row in near]
        return pairs

    def read_block(self, shard: int, first: int, count: int, fakes: NDArray[np.int64] | None = None) -> Pairs:
        """Reads `count` successive pairs of a shard and checks the CRC of each payload that it gives.

        With `fakes`, (count,), each pair has only that one of its fakes, from 0.

        A payload with a wrong CRC is read again. A `DamagedPair` came wrong each time, and with the same
        bytes: so it is the storage that holds it damaged, and not the way from there.

        Raises:
            UserError: the shard is missing, short or replaced, or storage fails for too long.
        """
        index = self.index(shard)
        if self._parts and index.hints and index.span(first, count)[1] > count * LARGE_PAIR:
            return self._partly(index, shard, first, [None] * count if fakes is None else fakes.tolist())
        if not self.cache and count > 1 and index.span(first, count)[1] > self.piece_bytes:
            return self._in_pieces(shard, first, count, fakes)
        chosen: list[int | None] = [None] * count if fakes is None else fakes.tolist()
        return self._whole(index, shard, first, chosen)

    def _whole(self, index: ShardIndex, shard: int, first: int, chosen: list[int | None]) -> Pairs:
        until = self._deadline()
        pairs = self._of_tar(index, shard, first, chosen, until)
        if self._with_hints and index.hints and index.hints.beside:
            return self._hints.given(pairs, index, first, chosen, until)
        return pairs

    def _of_tar(
        self, index: ShardIndex, shard: int, first: int, chosen: list[int | None], until: float
    ) -> Pairs:
        """The pairs, with the hints that lie in the tar."""
        count, key = len(chosen), block_key(index.entry.sha256, first, len(chosen))
        length = index.span(first, count)[1]
        if self.cache and (kept := self.cache.get(key)) is not None:
            whole = len(kept) == length
            pairs = self._pairs(index, shard, first, memoryview(kept), chosen) if whole else []
            if pairs and not _damaged(pairs):
                return pairs
            self.cache.drop(key)  # harmed on the local disk: taken from the storage again
        block = self._fetched(index, first, chosen, until)
        pairs = self._pairs(index, shard, first, block, chosen)
        wrong = _damaged(pairs)
        for number in wrong:
            pairs[number] = self._read_again(index, shard, first + number, until, chosen[number])
        if self.cache and not wrong:  # a block that came right at the second try holds the wrong bytes still
            self.cache.put(key, block)
        return pairs

    def _partly(self, index: ShardIndex, shard: int, first: int, chosen: list[int | None]) -> Pairs:
        """The pairs with images that are read later; what was read wrong is read as usual."""
        assert self._parts
        pairs: Pairs = []
        for row, fake in enumerate(chosen, first):
            pair = self._parts.read(index, row, fake, self.tar_url(shard))
            pairs += [pair] if pair else self._whole(index, shard, row, [fake])
        return pairs

    def _in_pieces(self, shard: int, first: int, count: int, fakes: NDArray[np.int64] | None) -> Pairs:
        pairs = []
        for rows in self.index(shard).requests(self.piece_bytes, range(first, first + count)):
            own = None if fakes is None else fakes[rows.start - first : rows.stop - first]
            pairs += self.read_block(shard, rows.start, len(rows), own)
        return pairs

    def _fetched(self, index: ShardIndex, first: int, chosen: list[int | None], until: float) -> memoryview:
        """The bytes of a block; zeros in place of long parts that only hold fakes that nobody asks for."""
        name, (start, length) = f"{index.entry.name}.tar", index.span(first, len(chosen))
        # A cache keeps all fakes: other epochs ask for others.
        parts = [] if None in chosen or self.cache else index.parts(first, np.array(chosen), _GAP_BYTES)
        if len(parts) < 2:
            return self.store.read_range(name, start, length, until=until)
        block = memoryview(bytearray(length))
        for begin, end in parts:
            part = self.store.read_range(name, begin, end - begin, until=until)
            block[begin - start : end - start] = part
        return block

    def _pairs(
        self,
        index: ShardIndex,
        shard: int,
        first: int,
        block: memoryview,
        chosen: list[int | None],
    ) -> Pairs:
        """The pairs in the bytes of a block; of each the fake that is chosen, None for all."""
        start, url = index.span(first, len(chosen))[0], self.tar_url(shard)
        return [
            unpacked(index, row, block, start, fake, url, hints=self._with_hints)
            for row, fake in zip(range(first, first + len(chosen)), chosen, strict=True)
        ]

    def _read_again(
        self, index: ShardIndex, shard: int, row: int, until: float, fake: int | None
    ) -> StoredPair | DamagedPair:
        """Reads a pair until it comes right, or has come wrong with the same bytes often enough."""
        start, length = index.span(row, 1)

        def unpack(data: memoryview) -> StoredPair | DamagedPair:
            return unpacked(index, row, data, start, fake, self.tar_url(shard), hints=self._with_hints)

        data, _ = read_verified(
            lambda until: self.store.read_range(f"{index.entry.name}.tar", start, length, until=until),
            lambda data: isinstance(unpack(data), StoredPair),
            f"{self.tar_url(shard)} bytes {start}-{start + length - 1}",
            until,
        )
        return unpack(data)


def _damaged(pairs: Pairs) -> list[int]:
    return [number for number, pair in enumerate(pairs) if isinstance(pair, DamagedPair)]


def open_dataset(url: str) -> Dataset:
    """Opens the dataset at a directory or URL."""
    return Dataset(url)


def iterate_pairs(url: str, block: int = 32) -> Iterator[StoredPair]:
    """All pairs of a dataset in stored order, read `block` at a time.

    Raises:
        UserError: a pair is damaged, or storage fails.
    """
    dataset = Dataset(url)
    for shard, entry in enumerate(dataset.manifest.shards):
        for first in range(0, entry.pairs, block):
            for pair in dataset.read_block(shard, first, min(block, entry.pairs - first)):
                yield sound(pair)
