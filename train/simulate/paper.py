"""A dataset of which only the manifest exists: reading it gives empty pairs, and is counted."""

import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pack.dataset.dataset import Dataset
from pack.dataset.hints import HintReader
from pack.dataset.index import HintPlaces, ShardIndex
from pack.dataset.pairs import Pairs, StoredPair
from pack.shard.listed.table import ShardTable
from pack.shard.manifest import Manifest
from pack.shard.schema import MEMBERS

REQUEST = 8 << 20
"""Bytes of one request of a read (`pack.storage.s3_read`, which imports boto3)."""
_PAIR = StoredPair(key="", url="", group="", pair_id=0, members={})


def paper_manifest(pairs: int, shard_pairs: int, pair_bytes: float) -> Manifest:
    """The manifest of a dataset of equal shards, the last of which may be shorter."""
    shards = -(-pairs // shard_pairs)
    kind = [("name", "S14"), ("pairs", "<i4"), ("bytes", "<i8"), ("sha256", "V32"), ("index_sha256", "V32")]
    rows = np.zeros(shards, kind)
    rows["name"] = [b"shard-%06d" % number for number in range(shards)]
    rows["pairs"] = shard_pairs
    rows["pairs"][-1] = pairs - (shards - 1) * shard_pairs
    rows["bytes"] = rows["pairs"] * pair_bytes
    return Manifest(name="paper", split=None, shards=ShardTable(rows), rejected=0, provenance={}, tabled=True)


@dataclass
class Traffic:
    """What was asked of the storage."""

    requests: int = 0
    bytes: int = 0
    index_requests: int = 0
    index_bytes: int = 0
    hint_requests: int = 0
    hint_bytes: int = 0

    def __sub__(self, other: "Traffic") -> "Traffic":
        """What was asked since then."""
        return Traffic(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def ask(self, size: int) -> None:
        """Counts a read of an object, or of a range of it."""
        self.requests += -(-size // REQUEST)
        self.bytes += size


@dataclass(frozen=True)
class _Index:
    """As much of a `ShardIndex` as is asked for before a payload is looked at."""

    pairs: int
    pair_bytes: float
    hints: HintPlaces

    @property
    def memory(self) -> int:
        return self.pairs * ShardIndex.row_memory(len(MEMBERS))

    def near(self, rows: NDArray[np.int64], _: int) -> list[NDArray[np.int64]]:
        return [rows]

    def span(self, first: int, count: int) -> tuple[int, int]:
        start = round(first * self.pair_bytes)
        return start, round((first + count) * self.pair_bytes) - start


class PaperDataset(Dataset):
    """A dataset that counts what it would read.

    Args:
        manifest: of the dataset.
        index_bytes: bytes of a shard's index for each of its pairs.
        hint_bytes: bytes of a pair's hints, if they lie beside the tars.
    """

    def __init__(self, manifest: Manifest, index_bytes: float, hint_bytes: float) -> None:
        super().__init__("paper", manifest=manifest)
        self.piece_bytes = sys.maxsize  # as of a bucket
        self.traffic = Traffic()
        self._pairs_of, self._bytes_of = manifest.numbers("pairs"), manifest.numbers("bytes")
        self._index_bytes = index_bytes
        none = np.zeros(0, np.int64)
        beside = manifest.hints_beside
        self._places = HintPlaces(offsets=none, sizes=none, crcs=none.astype(np.uint32), beside=beside)
        self._with_hints, self._hints = True, _PaperHints(self.traffic, hint_bytes)

    def _read_index(self, shard: int) -> ShardIndex:
        pairs = int(self._pairs_of[shard])
        size = round(pairs * self._index_bytes)
        self.traffic.ask(size)
        self.traffic.index_requests += -(-size // REQUEST)
        self.traffic.index_bytes += size
        index: Any = _Index(pairs, int(self._bytes_of[shard]) / pairs, self._places)
        return index  # type: ignore[no-any-return]

    def _of_tar(self, index: ShardIndex, _: int, first: int, chosen: list[int | None], *__: object) -> Pairs:
        self.traffic.ask(index.span(first, len(chosen))[1])
        return [_PAIR] * len(chosen)


class _PaperHints(HintReader):
    """Counts what reading hints would ask for."""

    def __init__(self, traffic: Traffic, pair_bytes: float) -> None:
        self._traffic, self._pair_bytes = traffic, pair_bytes

    def given(self, pairs: Pairs, *_: object) -> Pairs:
        """The same pairs."""
        size = round(len(pairs) * self._pair_bytes)
        self._traffic.ask(size)
        self._traffic.hint_requests += 1
        self._traffic.hint_bytes += size
        return pairs


class AtOnce(Executor):
    """Carries out what is submitted at once, so that requests come in one order."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> "Future[Any]":
        """The call's result."""
        done: Future[Any] = Future()
        done.set_result(call(*args, **options))
        return done
