"""One deadline holds for one block, one index and one manifest, however often they are read."""

import shutil
from itertools import count
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pack.dataset.dataset import Dataset
from pack.shard.manifest import read_manifest
from pack.shard.verified_read import read_verified
from pack.storage import LocalStore, Retry
from recon.base.errors import UserError

DEADLINE_S = 60.0


class Spoiling(LocalStore):
    """Other wrong bytes at each reading, which take ten seconds of a clock that stands still else."""

    def __init__(self, url: str, retry: Retry) -> None:
        super().__init__(url, retry)
        self.time_s, self.spoilt = 1000.0, "nothing"
        self.untils: list[float | None] = []
        self._turns = count()

    def _spoil(self, name: str, data: bytearray, until: float | None) -> bytes:
        if name.endswith(self.spoilt):
            self.untils.append(until)
            self.time_s += 10.0
            data[next(self._turns) % len(data)] ^= 0x5A
        return bytes(data)

    def read(self, name: str, start: int = 0, *, until: float | None = None) -> bytes:
        return self._spoil(name, bytearray(super().read(name, start)), until)

    def read_range(self, name: str, start: int, length: int, *, until: float | None = None) -> memoryview:
        return memoryview(self._spoil(name, bytearray(super().read_range(name, start, length)), until))


@pytest.fixture
def store(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoiling:
    shutil.copytree(packed, tmp_path / "data")
    store = Spoiling(str(tmp_path / "data"), Retry(deadline_s=DEADLINE_S))
    for module in ("pack.dataset.dataset", "pack.shard.manifest", "pack.shard.verified_read"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: store.time_s))
    return store


def opened(store: Spoiling) -> Dataset:
    dataset = Dataset(store.url, manifest=read_manifest(LocalStore(store.url)))
    dataset.store = store
    return dataset


def test_block_is_settled_within_one_deadline(store: Spoiling) -> None:
    dataset = opened(store)
    dataset.index(0)
    store.spoilt = ".tar"
    with pytest.raises(UserError, match="every read before the deadline gave wrong bytes"):
        dataset.read_block(0, 0, 4)
    assert set(store.untils) == {1000.0 + DEADLINE_S}
    assert store.time_s == 1000.0 + DEADLINE_S


def test_index_is_settled_within_one_deadline(store: Spoiling) -> None:
    dataset = opened(store)
    store.spoilt = ".parquet"
    with pytest.raises(UserError, match=r"\.parquet: every read before the deadline gave wrong bytes"):
        dataset.index(0)
    assert store.untils == [1000.0 + DEADLINE_S] * 6


def test_manifest_is_settled_within_one_deadline(store: Spoiling) -> None:
    store.spoilt = ".json"
    with pytest.raises(UserError, match=r"dataset\.json: every read before the deadline gave wrong bytes"):
        read_manifest(store)
    assert store.untils == [1000.0 + DEADLINE_S] * 6


def test_what_comes_right_or_the_same_and_wrong_in_time_is_settled_as_before() -> None:
    answers: list[Any] = [b"x", b"y", b"good"]
    assert read_verified(lambda _: answers.pop(0), lambda data: data == b"good", "x", inf) == (
        b"good",
        True,
    )
    assert read_verified(lambda _: b"bad", lambda _: False, "x", inf) == (b"bad", False)
