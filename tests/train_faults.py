"""Epochs out of a bucket compared with those from local disk, for the tests of the loader under faults."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fault_proxy import Fault, FaultProxy
from train_data import Steps, interleaved, world

from pack.dataset.dataset import Dataset
from train.loader.transfer import Batch

GRACE_S = 60.0  # past a deadline: less than a hang, more than a busy machine and a worker's start take
HIT = 5  # the pair of a shard that faults strike


@dataclass(frozen=True, kw_only=True)
class Local:
    """The dataset on local disk, and what an undisturbed epoch of it is."""

    folder: Path
    dataset: Dataset
    steps: Steps

    def size(self, suffix: str) -> int:
        """Bytes of all files whose name ends so."""
        return sum(path.stat().st_size for path in self.folder.glob(f"*{suffix}"))

    def payload(self, row: int = HIT, member: int = 0, shard: int = 1) -> int:
        """A byte in the midst of a member's payload."""
        index = self.dataset.index(shard)
        return int(index.offsets[row, member] + index.sizes[row, member] // 2)

    def key(self, row: int = HIT, shard: int = 1) -> str:
        return self.dataset.index(shard).keys[row]

    def keys_at(self, fault: Fault) -> set[str]:
        """Pairs that a fault, should it last, damages for good: it changes bytes of their payloads."""
        name, suffix = fault.key.rsplit("/", 1)[1].split(".")
        if suffix != "tar" or fault.kind not in ("flip", "replace"):
            return set()
        index = self.dataset.index(int(name.removeprefix("shard-")))
        if fault.kind == "replace":
            return set(index.keys)
        inside = (index.offsets <= fault.offset) & (fault.offset < index.offsets + index.sizes)
        return {key for key, hit in zip(index.keys, inside.any(axis=1), strict=True) if hit}


def strike(proxy: FaultProxy, url: str, name: str, *faults: Fault, offset: int | None = None) -> None:
    """Plans faults for an object of the dataset, at `offset` where they don't say another."""
    key = f"{url.split('/', 3)[3]}/{name}"
    places = [offset if fault.offset is None else fault.offset for fault in faults]
    proxy.plan(*(replace(fault, key=key, offset=at) for fault, at in zip(faults, places, strict=True)))


def struck(proxy: FaultProxy) -> int:
    """How many requests met a fault."""
    return sum(one.fault is not None for one in proxy.log)


def read_epoch(url: str, taken: list[list[Batch]], size: int = 1, **options: Any) -> None:
    """Appends the batches of all ranks, step by step, to `taken`."""
    loaders = world(url, size, **options)
    try:
        taken.extend(map(list, zip(*loaders, strict=True)))
    finally:
        for loader in loaders:
            loader.close()


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < limit_s + GRACE_S


def assert_right(taken: Sequence[Sequence[Batch]], expected: Steps) -> set[str]:
    """Each step holds its pairs, bit for bit, but for those that it calls damaged; returns their keys."""
    damaged: set[str] = set()
    for ranks, step in zip(taken, expected[: len(taken)], strict=True):
        hurt = {pair.key for batch in ranks for pair in batch.damaged}
        rows = interleaved([list(batch.images) for batch in ranks])
        masks = interleaved([batch.mask.tolist() for batch in ranks])
        places = [key if key not in hurt else None for key in step]
        assert masks == [key is not None for key in places] + [False] * (len(masks) - len(step))
        assert hurt <= step.keys()
        assert sum(len(batch.damaged) for batch in ranks) == len(hurt)
        keys = [iter(batch.keys) for batch in ranks]
        for place, key in enumerate(places):
            assert key is None or next(keys[place % len(ranks)]) == key
        assert all(torch.equal(rows[place], step[key]) for place, key in enumerate(places) if key)
        assert not any(next(rest, None) for rest in keys)
        damaged |= hurt
    return damaged
