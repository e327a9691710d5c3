"""Many processes that pack together: the bytes of one, in whatever order they run, die and run again."""

import json
import random
import shutil
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from pack_runs import config, ended, files, interrupted, pack_rank, start, write_spoilt

from pack.dataset.dataset import open_dataset
from pack.inspect.verify import verify
from pack.publish import packing
from pack.publish.packing import pack
from pack.shard.writer import ShardWriter
from pack.storage import LocalStore
from recon.base.errors import UserError


def shards_of(out: Path) -> set[str]:
    return {path.stem for path in out.glob("*.parquet")}


# The same bytes


@pytest.mark.parametrize("world", [2, 4])
def test_processes_at_the_same_time_give_the_bytes_of_one(
    packed: Path, photographs: Path, tmp_path: Path, world: int
) -> None:
    out = tmp_path / "out"
    ranks = [start(photographs, out, "--rank", rank, "--world_size", world) for rank in range(world)]
    ends = [ended(rank) for rank in ranks]
    assert [status for status, _ in ends] == [0] * world, ends
    assert files(out) == files(packed)


def test_ranks_of_an_autoencoder_give_the_bytes_of_one_process(photographs: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"autoencoder": "tiny", "threads": 1, "val_fraction": 0.3, "shard_pairs": 2}
    pack(config(photographs, tmp_path / "one", **options))
    for world in (2, 4):
        for rank in reversed(range(world)):
            pack_rank(photographs, tmp_path / str(world), rank, world, **options)
        assert files(tmp_path / str(world)) == files(tmp_path / "one")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_ranks_may_run_in_any_order_and_the_last_completes_the_dataset(
    packed: Path, photographs: Path, tmp_path: Path, order: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for count, rank in enumerate(order, 1):
        assert not (tmp_path / "out/dataset.json").exists()
        caplog.clear()
        pack_rank(photographs, tmp_path / "out", rank, 3)
        if count < 3:
            assert any(f"{count} of 3 shards are there; the last rank" in line for line in caplog.messages)
    assert files(tmp_path / "out") == files(packed)


def test_rank_writes_the_shards_of_its_number_modulo_the_world_size_and_no_others(
    photographs: Path, tmp_path: Path
) -> None:
    pack_rank(photographs, tmp_path / "out", 1, 2, shard_pairs=2)  # 6 shards
    assert shards_of(tmp_path / "out") == {f"shard-{number:06d}" for number in (1, 3, 5)}


def test_more_ranks_than_shards_is_no_trouble(packed: Path, photographs: Path, tmp_path: Path) -> None:
    for rank in range(5):
        pack_rank(photographs, tmp_path / "out", rank, 5)
    assert files(tmp_path / "out") == files(packed)


def test_another_world_size_goes_on_where_the_first_one_stopped(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    pack_rank(photographs, tmp_path / "out", 1, 2)
    before = (tmp_path / "out/shard-000001.tar").stat().st_mtime_ns
    pack(config(photographs, tmp_path / "out"))
    assert (tmp_path / "out/shard-000001.tar").stat().st_mtime_ns == before
    assert files(tmp_path / "out") == files(packed)


# Any rank again, at any time


def test_rank_run_again_leaves_what_is_finished_alone(photographs: Path, tmp_path: Path) -> None:
    pack_rank(photographs, tmp_path / "out", 0, 2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    pack_rank(photographs, tmp_path / "out", 0, 2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_rank_run_again_after_the_end_finds_it_done(
    packed: Path, photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    for rank in range(3):
        pack_rank(photographs, out, rank, 3)
    assert caplog.messages.count(f"{out} is complete already, nothing to do") == 3
    assert files(out) == files(packed)


@pytest.mark.parametrize("seed", range(8))
def test_ranks_stopped_at_any_pair_and_run_again_in_any_order_give_the_same_bytes(
    packed: Path, photographs: Path, tmp_path: Path, seed: int
) -> None:
    draw, out = random.Random(seed), tmp_path / "out"
    world = draw.choice([1, 2, 3])
    for _ in range(6):
        run = config(photographs, out, rank=draw.randrange(world), world_size=world)
        method = draw.choice([(ShardWriter, "add"), (LocalStore, "publish"), (LocalStore, "remove")])
        interrupted(run, *method, draw.randrange(5))
    ranks = list(range(world))
    draw.shuffle(ranks)
    for rank in ranks:
        pack_rank(photographs, out, rank, world)
    assert files(out) == files(packed)


@pytest.mark.parametrize("harm", ["tar cut", "index changed"])
def test_harmed_shard_is_packed_again_by_its_own_rank_alone(
    packed: Path, photographs: Path, tmp_path: Path, harm: str
) -> None:
    out = tmp_path / "out"
    for rank in (0, 1):
        pack_rank(photographs, out, rank, 3)
    harmed = out / ("shard-000001.tar" if harm == "tar cut" else "shard-000001.parquet")
    before = harmed.read_bytes()[:-8] + (b"" if harm == "tar cut" else b"\1" * 8)
    harmed.write_bytes(before)
    pack_rank(photographs, out, 0, 3)
    assert harmed.read_bytes() == before
    pack_rank(photographs, out, 1, 3)
    pack_rank(photographs, out, 2, 3)
    assert files(out) == files(packed)


def test_shard_of_an_older_run_never_gets_into_a_dataset(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    """As where an output is deleted and packed anew while a rank of the first run still writes."""
    pack_rank(photographs, tmp_path / "older", 1, 3, codec="lossless-png")
    pack_rank(photographs, tmp_path / "out", 0, 3)
    for path in (tmp_path / "older").glob("shard-*"):
        shutil.copy(path, tmp_path / "out")
    with pytest.raises(UserError, match=r"shard-000001\.parquet is of another run; delete it"):
        pack_rank(photographs, tmp_path / "out", 2, 3)
    pack_rank(photographs, tmp_path / "out", 1, 3)
    assert files(tmp_path / "out") == files(packed)


# Rejected images


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Two of its four shards are empty, at two pairs a shard."""
    return write_spoilt(tmp_path / "photos")


def test_empty_shards_are_marked_until_the_end_and_leave_nothing_behind(spoilt: Path, tmp_path: Path) -> None:
    pack(config(spoilt, tmp_path / "one", shard_pairs=2))
    out = tmp_path / "out"
    pack_rank(spoilt, out, 1, 2, shard_pairs=2)  # shards 1, empty, and 3
    assert {path.name for path in out.glob("shard-*")} == {
        "shard-000001.empty",
        "shard-000003.tar",
        "shard-000003.parquet",
    }
    pack_rank(spoilt, out, 0, 2, shard_pairs=2)
    assert files(out) == files(tmp_path / "one")
    rejected = [json.loads(line)["path"] for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert rejected == ["2.png", "3.png", "4.png", "5.png"]
    assert list(verify(open_dataset(str(out)))) == []


def test_marker_left_behind_by_a_late_rank_is_told_by_verify_and_tidied_by_the_next_run(
    spoilt: Path, tmp_path: Path
) -> None:
    pack(config(spoilt, tmp_path / "out", shard_pairs=2))
    before = files(tmp_path / "out")
    (tmp_path / "out/shard-000001.empty").write_text("{}")
    assert list(verify(open_dataset(str(tmp_path / "out")))) == ["shard-000001.empty: not in the manifest"]
    pack_rank(spoilt, tmp_path / "out", 1, 2, shard_pairs=2)
    assert files(tmp_path / "out") == before


@pytest.fixture
def half_spoilt(tmp_path: Path) -> Path:
    """An image folder of which no image of train is readable, and all of val and test are."""
    for split in ("train", "validation", "test"):
        for number in range(4):
            path = tmp_path / f"classes/{split}/cats/{number}.png"
            save(path, photograph(8, 8, number))
            if split == "train":
                path.write_bytes(b"")
    return tmp_path / "classes"


def test_splits_are_packed_though_one_of_them_comes_to_nothing(half_spoilt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(UserError) as error:
            pack(config(half_spoilt, out, layout="imagefolder"))
        assert str(error.value) == f"{out}/train: none of 4 images became a pair: 4x zero bytes"
        assert {path.name for path in out.iterdir() if path.is_dir() and any(path.iterdir())} == {
            "val",
            "test",
        }
    for split in ("val", "test"):
        assert open_dataset(str(out / split)).manifest.pairs == 4


def test_split_that_comes_to_nothing_is_told_by_the_rank_that_completes_it(
    half_spoilt: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"layout": "imagefolder", "shard_pairs": 1}
    out = tmp_path / "out"
    pack_rank(half_spoilt, out, 1, 2, **options)
    status, error = ended(
        start(half_spoilt, out, "--layout", "imagefolder", "--shard_pairs", 1, "--rank", 0, "--world_size", 2)
    )
    assert (status, error.count("error: ")) == (2, 1)
    assert f"error: {out}/train: none of 4 images became a pair: 4x zero bytes\n" in error
    for split in ("val", "test"):
        assert open_dataset(str(out / split)).manifest.pairs == 4


@pytest.mark.parametrize("world", [2, 9], ids=["with shards", "without"])
def test_rank_whose_claim_another_removed_as_all_is_rejected_knows_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    """The others complete it, to nothing, between this rank's last shard and its own look."""
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.jpg").write_bytes(b"")
    finish, raced = packing.finish, []

    def late(*arguments: Any) -> Any:
        if not raced:
            raced.append(True)
            for rank in range(min(4, world - 1)):
                with suppress(UserError):
                    pack_rank(source, out, rank, world, shard_pairs=1)
        return finish(*arguments)

    monkeypatch.setattr(packing, "finish", late)
    with pytest.raises(UserError, match="none of 4 images became a pair, as another rank found, which"):
        pack_rank(source, out, world - 1, world, shard_pairs=1)
    assert files(out) == {}


def test_rank_that_finds_every_image_of_all_ranks_rejected_tells_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / f"photos/{number}.jpg").write_bytes(b"")
    pack_rank(tmp_path / "photos", tmp_path / "out", 1, 2, shard_pairs=1)
    with pytest.raises(UserError, match="none of 4 images became a pair: 4x zero bytes"):
        pack_rank(tmp_path / "photos", tmp_path / "out", 0, 2, shard_pairs=1)
    assert files(tmp_path / "out") == {}
