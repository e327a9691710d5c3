"""What a rank reads: damage is named, read-ahead is bounded, a URL is as good as a path."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import webdataset as wds
from train_data import PAIRS, assert_equal, make_dataset, steps_of, world

from pack.dataset import StoredPair, iterate_pairs, open_dataset
from pack.manifest import Manifest
from recon.errors import UserError
from train.order import EpochOrder
from train.stream import Sample, read_samples


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


@pytest.fixture
def copy(url: str, tmp_path: Path) -> Path:
    """The dataset, to be spoilt."""
    return Path(shutil.copytree(url, tmp_path / "packed"))


@pytest.mark.parametrize("member", [0, 1, 2])
def test_a_flipped_byte_names_shard_and_key(copy: Path, member: int) -> None:
    index = open_dataset(str(copy)).index(2)
    tar = copy / "shard-000002.tar"
    data = bytearray(tar.read_bytes())
    data[int(index.offsets[4, member]) + 9] ^= 1
    tar.write_bytes(data)
    field = index.fields[4][member]
    with pytest.raises(UserError, match=rf"shard-000002\.tar: {index.keys[4]}\.{field} is damaged"):
        list(*world(str(copy), 1))


def test_a_cut_shard_is_named(copy: Path) -> None:
    tar = copy / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"shard-000001\.tar ends early"):
        list(*world(str(copy), 1))


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_a_removed_shard_is_named(copy: Path, suffix: str) -> None:
    (copy / f"shard-000003.{suffix}").unlink()
    with pytest.raises(UserError, match=rf"shard-000003\.{suffix} not found"):
        list(*world(str(copy), 1))


def test_bytes_that_are_no_image_are_named(url: str) -> None:
    def spoil(sample: Sample) -> Sample:
        return sample | {"real.png": sample["real.png"][:-40]}

    with pytest.raises(UserError, match=r"key '\S+' in \S+/shard-00000\d\.tar can't be decoded"):
        list(*world(url, 1, stages=[wds.map(spoil)]))


def test_halves_of_different_size_are_named(url: str) -> None:
    others = iter([pair.fake for pair in iterate_pairs(url)] * 2)

    def exchange(sample: Sample) -> Sample:
        return sample | {"fake.png": next(others)}

    with pytest.raises(UserError, match=r"real and fake are \d+x\d+ and \d+x\d+, expected equal sizes"):
        list(*world(url, 1, stages=[wds.map(exchange)]))


def test_a_url_reads_as_the_local_path_does(url: str) -> None:
    memory = fsspec.filesystem("memory")
    for path in Path(url).iterdir():
        memory.pipe_file(f"/loader-test/{path.name}", path.read_bytes())
    try:
        assert_equal(steps_of(world("memory://loader-test", 2)), steps_of(world(url, 1)))
        memory.rm_file("/loader-test/shard-000000.tar")
        with pytest.raises(UserError, match=r"memory://loader-test/shard-000000\.tar not found"):
            list(*world("memory://loader-test", 1))
    finally:
        memory.rm("/loader-test", recursive=True)


class CountingDataset:
    """400 pairs of 1,000 bytes in four shards; counts the bytes that were read."""

    def __init__(self) -> None:
        shard = SimpleNamespace(name="shard", pairs=100, bytes=100_000)
        self.manifest = SimpleNamespace(shards=[shard] * 4, pairs=400)
        self.store = SimpleNamespace(url="stub")
        self.read = 0
        self._lock = threading.Lock()

    def read_block(self, shard: int, first: int, count: int) -> list[StoredPair]:
        with self._lock:
            self.read += 1000 * count
        rows = [100 * shard + row for row in range(first, first + count)]
        return [StoredPair(key=str(row), group="", pair_id=row, members={}) for row in rows]


@pytest.mark.parametrize("limit", [1, 10_000, 60_000])
def test_reading_ahead_keeps_within_its_bytes(limit: int) -> None:
    dataset = CountingDataset()
    order = EpochOrder([100] * 4, seed=1, epoch=0, lanes=8, block=5, window=2)
    window, most = 10_000, 0
    with ThreadPoolExecutor(4) as pool:
        samples = read_samples(
            dataset,  # type: ignore[arg-type]
            order,
            rank=0,
            world_size=1,
            position=0,
            pool=pool,
            read_ahead_bytes=limit,
        )
        keys = []
        for sample in samples:
            keys.append(sample["__key__"])
            most = max(most, dataset.read - 1000 * len(keys))
    assert sorted(map(int, keys)) == list(range(400))
    assert most <= 8 * window + limit + window  # the lanes' windows in use, what is ahead, and one begun


def test_an_unfinished_dataset_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "dataset.json").unlink()
    for folder in (copy, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"dataset\.json not found: \S+ is no finished dataset"):
            world(str(folder), 1)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    manifest = Manifest(name="none", split=None, shards=(), rejected=0, provenance={})
    (tmp_path / "dataset.json").write_text(manifest.to_json())
    with pytest.raises(UserError, match="no pair"):
        world(str(tmp_path), 1)
