"""Damaged pairs of a run: each is listed once, nothing else moves, and too many end the run."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from train_data import make_dataset
from train_ranks import batch_of, random_batch, trainee
from train_runs import Plan, Ranks, as_options, keys_of_steps, small_config, stop_at

from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair
from recon.base.errors import UserError
from train.loop import run
from train.loop.config import DataConfig
from train.loop.quarantine import Quarantine
from train.model.build import build_model
from train.model.checkpoint import load_checkpoint
from train.model.config import ModelConfig
from train.world.stop import Preempted
from train.world.world import World, open_world

PAIRS, STEPS = 61, 8
HURT = [3, 17, 18, 40, 59]


@pytest.fixture
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


def pair(key: str, shard: int = 0, cause: str = "CRC-32 of real differs") -> DamagedPair:
    return DamagedPair(key=key, url=f"s3://b/d/shard-{shard:06d}.tar", cause=cause)


def quarantine(world: World, limit: float = 0.001) -> tuple[Quarantine, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    return Quarantine(world, limit=limit, write=lines.append), lines


def take(one: Quarantine, found: list[DamagedPair], *, valid: int = 8, step: int = 1) -> None:
    one.take(found, damaged=len(found), valid=valid, epoch=0, step=step)


def test_each_pair_is_listed_once_by_key(world: World) -> None:
    one, lines = quarantine(world)
    take(one, [pair("b"), pair("a", shard=1, cause="fake can't be decoded")], step=4)
    take(one, [pair("c"), pair("b")], step=5)
    assert [(line["step"], line["key"]) for line in lines] == [(4, "a"), (4, "b"), (5, "c")]
    assert lines[0] == {
        "epoch": 0,
        "step": 4,
        "url": "s3://b/d/shard-000001.tar",
        "key": "a",
        "cause": "fake can't be decoded",
    }
    assert one.causes == {"CRC-32 of real differs": 2, "fake can't be decoded": 1}
    assert (one.pairs, one.damaged) == (3, 4)


@pytest.mark.parametrize(("limit", "allowed"), [(0.001, 1), (0.002, 2), (0.0, 0), (1.0, 500)])
def test_the_share_is_judged_from_a_thousand_pairs_on(world: World, limit: float, allowed: int) -> None:
    one, _ = quarantine(world, limit)
    some = [pair(f"{number:03}") for number in range(allowed)]
    take(one, some, valid=999 - allowed)
    take(one, [], valid=1)
    if allowed < 500:
        with pytest.raises(UserError, match="of 1001 pairs seen were damaged, more than"):
            take(one, [pair("more"), pair("even more")], valid=-1)


def test_early_damage_ends_the_run_once_the_share_is_judged(world: World) -> None:
    one, _ = quarantine(world)
    take(one, [pair("a"), pair("b"), pair("c", shard=7)], valid=990)
    complaint = (
        r"3 of 1001 pairs seen were damaged, more than data.max_damaged=0.001 allows "
        r"\(CRC-32 of real differs: 3\); most of them in s3://b/d/shard-000000.tar \(2\); "
        r"run python -m pack.verify .* or raise data.max_damaged"
    )
    with pytest.raises(UserError, match=complaint):
        take(one, [], valid=8)


def test_nothing_valid_ends_the_run_at_once(world: World) -> None:
    one, lines = quarantine(world, limit=1.0)
    with pytest.raises(UserError, match="not one of 2 pairs so far is whole"):
        take(one, [pair("a"), pair("b")], valid=0)
    assert len(lines) == 2
    one, _ = quarantine(world)
    take(one, [], valid=1)
    take(one, [pair("a")], valid=0)  # something was valid before


def test_counting_goes_on_from_a_state(world: World) -> None:
    one, lines = quarantine(world)
    take(one, [pair("a")], valid=997)
    again, more = quarantine(world)
    again.load_state_dict(json.loads(json.dumps(one.state_dict())), lines)
    take(again, [pair("a")], valid=0, step=2)
    assert (more, again.pairs, again.damaged, again.valid) == ([], 1, 2, 997)
    with pytest.raises(UserError, match=r"3 of 1000 pairs .*shard-000000.tar \(2\)"):
        take(again, [pair("b")], valid=0)


def test_masks_anywhere_count_only_what_is_valid(world: World) -> None:
    batch = random_batch(5, seed=1)
    holed = batch.mask.clone()
    holed[[0, 3]] = False
    hurt = batch_of(batch.images, holed, damaged=[pair("0"), pair("3")])
    result = trainee(build_model(ModelConfig(backbone="highpass")), world).step(hurt, 0)
    assert (result.images, result.damaged, result.applied) == (6, 2, True)


def flip_bytes(url: str, numbers: list[int]) -> dict[str, str]:
    """Damages the real images of some pairs of a dataset; returns their keys and tars."""
    dataset, damaged = Dataset(url), {}
    first = 0
    for shard, entry in enumerate(dataset.manifest.shards):
        index, tar = dataset.index(shard), Path(dataset.tar_url(shard))
        content = bytearray(tar.read_bytes())
        for number in numbers:
            if first <= number < first + entry.pairs:
                content[int(index.offsets[number - first, 0]) + 20] ^= 0x55
                damaged[index.keys[number - first]] = str(tar)
        tar.write_bytes(content)
        first += entry.pairs
    return damaged


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": make_dataset(folder / "train", pairs=PAIRS, shard_pairs=16, size=(24, 24)),
        "val": make_dataset(folder / "val", pairs=9, shard_pairs=4, size=(24, 24), start=500),
    }


@pytest.fixture(scope="module")
def hurt(data: dict[str, str]) -> dict[str, str]:
    """Keys and tars of the damaged pairs of both datasets."""
    return flip_bytes(data["train"], HURT) | flip_bytes(data["val"], [2])


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]


def test_a_run_lists_exactly_the_damaged_pairs_and_goes_on(
    data: dict[str, str], hurt: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run.train(small_config(data, tmp_path / "run"))
    found = lines(tmp_path / "run")
    assert {line["key"]: line["url"] for line in found} == hurt
    assert len(found) == len(hurt)
    assert {line["epoch"] for line in found} == {0}
    assert found == sorted(found, key=lambda line: (line["step"], line["key"]))
    content = load_checkpoint(tmp_path / "run" / f"step-{2 * STEPS:08d}.pt")
    assert content["quarantine"]["causes"] == {"CRC-32 of real differs": len(hurt)}
    assert content["quarantine"]["damaged"] == 2 * len(hurt)
    assert content["quarantine"]["valid"] + 2 * len(hurt) == 2 * (PAIRS + 9)
    assert f"epoch 1: {PAIRS}/{PAIRS} pairs" in caplog.text
    assert f"{len(hurt)} quarantined" in caplog.text
    board = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert board.Scalars("quarantine/pairs")[-1].value == len(hurt)
    assert any("CRC-32" in tag for tag in board.Tags()["scalars"])


@pytest.mark.parametrize("step", [3, STEPS, STEPS + 2])
def test_the_list_of_a_resumed_run_is_that_of_an_undisturbed_one(
    data: dict[str, str], hurt: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run.train(small_config(data, tmp_path / "whole"))
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(small_config(data, tmp_path / "run"), stop=stop_at(step, patched))
    run.train(small_config(data, tmp_path / "run"))
    for name in ("quarantine.jsonl", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(lines(tmp_path / "run")) == len(hurt)


def test_two_ranks_list_the_same_as_one_and_leave_the_same_steps(
    data: dict[str, str], hurt: dict[str, str], tmp_path: Path
) -> None:
    steps = {}
    for size in (1, 2):
        folder = tmp_path / str(size)
        (folder / "keys").mkdir(parents=True)
        words = as_options(small_config(data, folder / "run"))
        statuses, text = Ranks().run(size, words, folder, Plan(ranks=(), keys=str(folder / "keys")))
        assert statuses == [0] * size, text
        steps[size] = keys_of_steps(folder / "keys", 2 * STEPS)
    assert steps[1] == steps[2]
    assert not set().union(*steps[1]) & set(hurt)
    assert [len(keys) for keys in steps[1]] != [8] * (2 * STEPS)
    assert (tmp_path / "1/run/quarantine.jsonl").read_bytes() == (
        tmp_path / "2/run/quarantine.jsonl"
    ).read_bytes()


def test_a_dataset_without_a_whole_pair_stops_at_the_first_step(tmp_path: Path) -> None:
    url = make_dataset(tmp_path / "bad", pairs=20, shard_pairs=10, size=(24, 24))
    flip_bytes(url, list(range(20)))
    only = DataConfig(train=url, workers=0, max_damaged=1.0)
    with pytest.raises(UserError, match=r"not one of 8 pairs so far is whole .*shard-00000\d\.tar"):
        run.train(small_config({"train": url}, tmp_path / "run", data=only))
    assert len(lines(tmp_path / "run")) == 8
