"""What a rank reads: damage is named, read-ahead is bounded, a URL is as good as a path."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import torch
import webdataset as wds
from train_data import PAIRS, assert_equal, make_dataset, steps_of, world

from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.shard.manifest import Manifest
from pack.shard.schema import MEMBERS
from recon.base.errors import UserError
from train.loader.transfer import Batch
from train.order.epoch import EpochOrder, Run
from train.order.mixture import Source
from train.stream.samples import Sample, StoredSource, Visit, read_samples


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


@pytest.fixture
def copy(url: str, tmp_path: Path) -> Path:
    """The dataset, to be spoilt."""
    return Path(shutil.copytree(url, tmp_path / "packed"))


@pytest.mark.parametrize("member", [0, 1, 2])
def test_a_flipped_byte_masks_its_pair_alone(url: str, copy: Path, member: int) -> None:
    index = open_dataset(str(copy)).index(2)
    tar = copy / "shard-000002.tar"
    data = bytearray(tar.read_bytes())
    data[int(index.offsets[4, member]) + 9] ^= 1
    tar.write_bytes(data)
    whole, spoilt = list(*world(url, 1)), list(*world(str(copy), 1))
    cause = f"CRC-32 of {MEMBERS[member]} differs"
    damaged = [one for batch in spoilt for one in batch.damaged]
    assert damaged == [DamagedPair(key=index.keys[4], url=str(tar), cause=cause)]
    for one, other in zip(whole, spoilt, strict=True):
        for key in other.keys:
            assert torch.equal(image_of(one, key), image_of(other, key))
        assert set(one.keys) - set(other.keys) <= {index.keys[4]}
        assert not other.images[~other.mask].any()


def image_of(batch: Batch, key: str) -> torch.Tensor:
    return batch.images[batch.mask][batch.keys.index(key)]


def test_where_no_pair_may_be_missing_damage_is_an_error(copy: Path) -> None:
    index = open_dataset(str(copy)).index(0)
    tar = copy / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[int(index.offsets[3, 0])] ^= 1
    tar.write_bytes(data)
    with pytest.raises(UserError, match=rf"shard-000000\.tar: {index.keys[3]} is damaged \(CRC-32 of real"):
        list(iterate_pairs(str(copy)))


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


def test_bytes_that_are_no_image_mask_their_pair(url: str) -> None:
    def spoil(sample: Sample) -> Sample:
        return sample | {"real.png": sample["real.png"][:-40]}

    batches = list(*world(url, 1, stages=[wds.map(spoil)]))
    assert not any(batch.mask.any() for batch in batches)
    damaged = [one for batch in batches for one in batch.damaged]
    assert {one.key for one in damaged} == {pair.key for pair in iterate_pairs(url)}
    assert {one.cause for one in damaged} == {"real can't be decoded"}


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


class CountingSource(StoredSource):
    """400 pairs of 1,000 bytes in four shards; counts the bytes that were read."""

    def __init__(self) -> None:
        self.bytes_read = 0
        super().__init__(dataset=SimpleNamespace(cache=None))  # type: ignore[arg-type]
        self._lock = threading.Lock()

    def expected_bytes(self, run: Run) -> int:
        return 1000 * run.count

    def read_alone(self, run: Run, order: EpochOrder) -> Visit:
        return self.read(run, order)[0]

    def read(self, run: Run, order: EpochOrder) -> list[Visit]:  # noqa: ARG002
        with self._lock:
            self.bytes_read += 1000 * run.count
        rows = [100 * run.shard + row for row in range(run.first, run.first + run.count)]
        return [(StoredPair(key=str(row), url="stub", group="", pair_id=row, members={}), 0) for row in rows]


@pytest.mark.parametrize("limit", [1, 10_000, 60_000])
def test_reading_ahead_keeps_within_its_bytes(limit: int) -> None:
    source = CountingSource()
    order = EpochOrder([Source(shard_pairs=[100] * 4)], seed=1, epoch=0, lanes=8, block=5, window=2)
    window, most = 10_000, 0
    with ThreadPoolExecutor(4) as pool:
        samples = read_samples(
            [source], order, rank=0, world_size=1, position=0, urgent=5, pool=pool, read_ahead_bytes=limit
        )
        keys = []
        for _, sample in samples:
            assert isinstance(sample, dict)
            keys.append(sample["__key__"])
            most = max(most, source.bytes_read - 1000 * len(keys))
    assert sorted(map(int, keys)) == list(range(400))
    alone = 8 * 1000  # the first pair of each lane, read twice
    assert most <= 8 * window + limit + window + alone  # windows in use, what is ahead, one begun


@pytest.mark.parametrize("urgent", [0, 3, 8, 100])
@pytest.mark.parametrize("position", [0, 5, 390])
def test_the_first_batch_is_read_before_all_else(urgent: int, position: int) -> None:
    source = CountingSource()
    order = EpochOrder([Source(shard_pairs=[100] * 4)], seed=1, epoch=0, lanes=8, block=5, window=2)
    alone = min(urgent, 8, 400 - position)
    with ThreadPoolExecutor(4) as pool:
        samples = read_samples(
            [source],
            order,
            rank=0,
            world_size=1,
            position=position,
            urgent=urgent,
            pool=pool,
            read_ahead_bytes=20_000,
        )
        places = [place for place, _ in islice(samples, alone)]
        assert source.bytes_read == 1000 * alone
        places += [place for place, _ in samples]
    assert places == list(range(position, 400))


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
