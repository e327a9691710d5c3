"""A packed dataset, opened for reading: its manifest, its indexes, its blocks of pairs."""

import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pack.manifest import Manifest, ShardEntry, read_manifest
from pack.shard import MEMBERS, read_index
from pack.storage import Store, open_store
from recon.codec import LOADABLE
from recon.errors import UserError

_CACHED_BYTES = 64 << 20  # of index rows kept in memory


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The columns of a shard's index that reading needs; n rows, one a pair."""

    entry: ShardEntry
    keys: list[str]
    groups: list[str]
    pair_ids: NDArray[np.uint64]
    """(n,)"""
    fields: list[tuple[str, ...]]
    """The WebDataset field names of each pair's members, e.g. (real.jpg, fake.jpg, json)."""
    offsets: NDArray[np.int64]
    """(n, 3) bytes from the tar's start to the payload of each member."""
    sizes: NDArray[np.int64]
    """(n, 3) bytes."""
    crcs: NDArray[np.uint32]
    """(n, 3)"""

    @property
    def memory(self) -> int:
        """Bytes held, about."""
        return len(self.keys) * 320

    def span(self, first: int, count: int) -> tuple[int, int]:
        """(offset, length) of the bytes that hold pairs first..first+count-1."""
        start = int(self.offsets[first, 0])
        last = first + count - 1
        return start, int(self.offsets[last, -1] + self.sizes[last, -1]) - start


@dataclass(frozen=True, kw_only=True)
class StoredPair:
    """A pair as it lies in a shard, its CRC checked."""

    key: str
    group: str
    pair_id: int
    members: dict[str, bytes]
    """WebDataset fields to payloads, in the tar's order."""

    @property
    def real(self) -> bytes:
        """The real image's file."""
        return next(data for field, data in self.members.items() if field.startswith("real."))

    @property
    def fake(self) -> bytes:
        """The reconstruction's file."""
        return next(data for field, data in self.members.items() if field.startswith("fake."))


class Dataset:
    """A dataset at a directory or URL. Opening reads the manifest alone.

    Args:
        url: directory or fsspec URL that holds ``dataset.json``.

    Raises:
        UserError: there is no finished dataset of this version.
    """

    def __init__(self, url: str) -> None:
        self.store: Store = open_store(url)
        self.manifest: Manifest = read_manifest(self.store)
        self._cache: OrderedDict[int, ShardIndex] = OrderedDict()
        self._lock = threading.Lock()

    def index(self, shard: int) -> ShardIndex:
        """The index of a shard by its place in the manifest, from a cache bounded in bytes."""
        with self._lock:
            if shard in self._cache:
                self._cache.move_to_end(shard)
                return self._cache[shard]
        index = _shard_index(self.manifest.shards[shard], self.table(shard))
        with self._lock:
            self._cache[shard] = index
            while len(self._cache) > 1 and sum(one.memory for one in self._cache.values()) > _CACHED_BYTES:
                self._cache.popitem(last=False)
        return index

    def table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The index of a shard with all its columns, checked against the manifest."""
        entry = self.manifest.shards[shard]
        data = self.store.read(f"{entry.name}.parquet")
        if hashlib.sha256(data).hexdigest() != entry.index_sha256:
            raise UserError(
                f"{self.store.url}/{entry.name}.parquet differs from the manifest (sha256); "
                "run python -m pack.verify, then restore or repack it"
            )
        return read_index(data, columns)

    def read_block(self, shard: int, first: int, count: int) -> list[StoredPair]:
        """Reads `count` successive pairs of a shard in one request and checks every payload's CRC.

        Raises:
            UserError: the shard is missing or short, or a payload is damaged.
        """
        index = self.index(shard)
        start, length = index.span(first, count)
        block = memoryview(self.store.read(f"{index.entry.name}.tar", start, length))
        return [self._pair(index, row, block, start) for row in range(first, first + count)]

    def _pair(self, index: ShardIndex, row: int, block: memoryview, start: int) -> StoredPair:
        members: dict[str, bytes] = {}
        for column, field in enumerate(index.fields[row]):
            offset = int(index.offsets[row, column]) - start
            data = bytes(block[offset : offset + int(index.sizes[row, column])])
            if zlib.crc32(data) != index.crcs[row, column]:
                raise UserError(
                    f"{self.store.url}/{index.entry.name}.tar: {index.keys[row]}.{field} is damaged "
                    "(CRC-32 differs from the index); run python -m pack.verify, then restore the shard"
                )
            members[field] = data
        return StoredPair(
            key=index.keys[row], group=index.groups[row], pair_id=int(index.pair_ids[row]), members=members
        )


def open_dataset(url: str) -> Dataset:
    """Opens the dataset at a directory or URL."""
    return Dataset(url)


def iterate_pairs(url: str, block: int = 32) -> Iterator[StoredPair]:
    """All pairs of a dataset in stored order, `block` of them a request."""
    dataset = Dataset(url)
    for shard, entry in enumerate(dataset.manifest.shards):
        for first in range(0, entry.pairs, block):
            yield from dataset.read_block(shard, first, min(block, entry.pairs - first))


def _shard_index(entry: ShardEntry, table: pa.Table) -> ShardIndex:
    def columns(name: str) -> NDArray[np.int64]:
        return np.stack([table[f"{member}_{name}"].to_numpy() for member in MEMBERS], axis=1)

    codecs = zip(table["real_codec"].to_pylist(), table["fake_codec"].to_pylist(), strict=True)
    return ShardIndex(
        entry=entry,
        keys=table["key"].to_pylist(),
        groups=table["group"].to_pylist(),
        pair_ids=table["pair_id"].to_numpy(),
        fields=[(f"real.{LOADABLE[real]}", f"fake.{LOADABLE[fake]}", "json") for real, fake in codecs],
        offsets=columns("offset"),
        sizes=columns("size"),
        crcs=columns("crc32").astype(np.uint32),
    )
