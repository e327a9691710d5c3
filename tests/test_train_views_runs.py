"""Whole runs on several views of a pair: stopped, killed and resumed, and what they count."""

import json
from pathlib import Path

import pytest
from train_data import make_sets
from train_runs import Plan, Ranks, as_options, same_bits, small_config, stop_at

from train.draws.config import AugmentConfig
from train.loop import run
from train.loop.config import TrainConfig
from train.model.checkpoint import load_checkpoint
from train.optim.config import LossConfig
from train.world.stop import Preempted

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

ALL = LossConfig(bce=0.5, ranking=0.3, contrastive=0.4, temperature=0.5, drct=0.6, consistency=2.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=21, size=(32, 32))


def run_config(data: dict[str, str], out: Path) -> TrainConfig:
    return small_config(data, out, augment=AugmentConfig(crop=16, views=2), loss=ALL)


@pytest.fixture(scope="module")
def whole(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run.train(run_config(data, out))
    return out


def assert_equal_end(found: Path, expected: Path) -> None:
    one, other = (load_checkpoint(folder / "step-00000006.pt") for folder in (found, expected))
    for key in ("model", "optimizer", "schedule", "quarantine", "val"):
        assert same_bits(one[key], other[key]), key
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(
    data: dict[str, str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (2, 5):
        with monkeypatch.context() as patched, pytest.raises(Preempted):
            run.train(run_config(data, tmp_path / "run"), stop=stop_at(step, patched))
    run.train(run_config(data, tmp_path / "run"))
    assert_equal_end(tmp_path / "run", whole)


def test_two_ranks_that_were_killed_go_on_to_the_same_bits(data: dict[str, str], tmp_path: Path) -> None:
    ranks = Ranks()
    for name, plan in (
        ("whole", Plan(ranks=())),
        ("parts", Plan(step=4, ranks=(1,))),
        ("parts", Plan(ranks=())),
    ):
        words = as_options(run_config(data, tmp_path / name))
        statuses, text = ranks.run(2, words, tmp_path, plan)
        assert (statuses == [0, 0]) == (not plan.ranks), text
    assert_equal_end(tmp_path / "parts", tmp_path / "whole")


def test_pairs_are_counted_once_whatever_their_views(whole: Path) -> None:
    last = load_checkpoint(whole / "step-00000006.pt")
    assert last["quarantine"]["valid"] == 2 * (21 + 3)  # two epochs and two validations
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [3, 6]
    assert all(line["val"]["n_real"] == 3 for line in lines if "val" in line)
