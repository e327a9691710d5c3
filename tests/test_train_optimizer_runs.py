"""Whole runs with every optimiser and schedule: stopped and resumed, and ended early."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from train_data import make_dataset
from train_runs import same_bits, small_config, stop_at

from train.detector.detector import Detector
from train.evaluation.metrics import Summary
from train.loop import run
from train.loop.trainee import Trainee
from train.model.checkpoint import load_checkpoint
from train.optim.config import OptimConfig
from train.world.stop import Preempted


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": make_dataset(folder / "train", pairs=21, shard_pairs=8, size=(32, 32)),
        "val": make_dataset(folder / "val", pairs=3, shard_pairs=4, size=(32, 32), start=500),
    }


OPTIMS = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "warmup_steps": 2},
    "sgd": {"optimizer": "sgd", "schedule": "linear", "clip": 0.5, "accumulate": 2},
    "ema": {"ema": 0.9, "optimizer": "adamw"},
    "plateau": {"warmup_epochs": 1.5, "patience": 1, "best_by": "loss"},
}


@pytest.mark.parametrize("name", OPTIMS)
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    optim = OptimConfig(lr=0.01, **OPTIMS[name])  # type: ignore[arg-type]
    run.train(small_config(data, tmp_path / "whole", optim=optim))
    for step in (2, 4):
        with monkeypatch.context() as patched, pytest.raises(Preempted):
            run.train(small_config(data, tmp_path / "parts", optim=optim), stop=stop_at(step, patched))
    run.train(small_config(data, tmp_path / "parts", optim=optim))
    whole, parts = (load_checkpoint(tmp_path / name / "step-00000006.pt") for name in ("whole", "parts"))
    for key in ("model", "optimizer", "schedule"):
        assert same_bits(whole[key], parts[key]), key
    assert same_bits(whole.get("trained"), parts.get("trained"))
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "parts/metrics.jsonl").read_bytes()


def test_the_average_is_validated_and_saved_in_place_of_the_last_weights(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    original = Trainee.step

    def watched(self: Trainee, *arguments: Any, **more: Any) -> Any:
        result = original(self, *arguments, **more)
        seen.append({name: value.detach().clone() for name, value in self.module.named_parameters()})
        return result

    monkeypatch.setattr(Trainee, "step", watched)
    run.train(small_config(data, tmp_path / "run", optim=OptimConfig(lr=0.01, ema=0.75)))
    expected, *later = seen
    for weights in later:
        expected = {name: 0.75 * expected[name] + 0.25 * weights[name] for name in weights}
    last = load_checkpoint(tmp_path / "run/step-00000006.pt")
    best = load_checkpoint(tmp_path / "run/best.pt")
    assert "trained" not in best
    for name, value in expected.items():
        torch.testing.assert_close(last["model"][name], value)
        assert torch.equal(last["trained"][name], seen[-1][name])
    detector = Detector.load(tmp_path / "run/step-00000006.pt", device="cpu")
    assert torch.equal(detector.model.get_parameter("fc.weight"), last["model"]["fc.weight"])


def test_a_run_ends_when_no_epoch_was_better_for_long_enough_and_stays_ended(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.9])
    shares: dict[str, Any] = dict.fromkeys(
        ("ap", "balanced_accuracy", "accuracy", "real_accuracy", "fake_accuracy"), 0.5
    )
    monkeypatch.setattr(
        Trainee, "validate", lambda *_: Summary(auc=next(scores), n_real=1, n_fake=1, **shares)
    )
    config = small_config(
        data, tmp_path / "run", epochs=5, optim=OptimConfig(stop_after=2, schedule="constant")
    )
    with caplog.at_level("INFO"):
        run.train(config)
        assert (
            "done after epoch 3: no epoch was better than epoch 1 for optim.stop_after=2 epochs"
            in caplog.text
        )
        run.train(config)
    assert "nothing to do" in caplog.text
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "val" in line] == [0, 1, 2, 3]
