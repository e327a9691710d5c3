"""Whole runs with every optimiser and schedule: stopped and resumed, judged, and ended early."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_data import make_sets
from train_runs import same_bits, small_config, stop_at

from recon.base.errors import UserError
from train.detector.detector import Detector
from train.draws.config import AugmentConfig
from train.evaluation.metrics import Summary
from train.loop import run
from train.loop.config import DataConfig, TrainConfig
from train.loop.resume import check_options, is_comparable
from train.loop.trainee import Trainee
from train.model.checkpoint import load_checkpoint
from train.optim.config import OptimConfig
from train.optim.schedule import Schedule
from train.world.stop import Preempted


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=21, size=(32, 32))


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


OPTIMS = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "warmup_steps": 2},
    "sgd": {"optimizer": "sgd", "schedule": "linear", "clip": 0.5, "accumulate": 2},
    "ema": {"ema": 0.9, "optimizer": "adamw"},
    "layers": {"layer_decay": 0.7, "weight_decay": 0.1, "warmup_steps": 2, "patience": 1, "best_by": "loss"},
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
    monkeypatch.setattr(Trainee, "validate", lambda *_: replace(summary(0.5), auc=next(scores)))
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
    assert [line["epoch"] for line in logged(tmp_path / "run") if "val" in line] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("patience", "balanced", "rates"),
    [
        # a gain in the first epoch; then the rate falls at each `patience`-th epoch without one
        (1, [0.5] * 9, [1e-2, 1e-2, 1e-3, 1e-4]),
        (2, [0.5] * 9, [1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]),
        (2, [0.5, 0.5, 0.50001, 0.5, 0.5, 0.5, 0.5, 0.5], [1e-2] * 5 + [1e-3] * 2 + [1e-4]),
    ],
)
def test_the_rate_falls_by_ten_at_patience_and_ends_the_run_below_its_least(
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    balanced: list[float],
    rates: list[float],
) -> None:
    scores = iter(balanced)
    monkeypatch.setattr(Trainee, "validate", lambda _self, _batches: summary(next(scores)))
    optim = OptimConfig(lr=1e-2, min_lr=1e-4, patience=patience, best_by="balanced_accuracy")
    run.train(small_config(data, tmp_path / "run", optim=optim, epochs=len(balanced), log_every=3))
    metrics = [line["lr"] for line in logged(tmp_path / "run") if "lr" in line]
    assert metrics == pytest.approx(rates[: len(balanced)])


def summary(balanced: float) -> Summary:
    shares = dict.fromkeys(("accuracy", "real_accuracy", "fake_accuracy"), balanced)
    return Summary(ap=0.5, auc=0.5, balanced_accuracy=balanced, n_real=1, n_fake=1, **shares)


@pytest.mark.parametrize(
    ("by", "values", "best"),
    [("balanced_accuracy", [0.6, 0.8, 0.7], 1), ("auc", [0.8, 0.8, 0.7], 1), ("loss", [0.3, 0.2, 0.4], 1)],
)
def test_best_is_the_last_of_the_best_epochs_and_the_run_tells_both_ends(
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    by: Any,
    values: list[float],
    best: int,
) -> None:
    scores = iter(values)
    monkeypatch.setattr(Trainee, "validate", lambda *_: replace(summary(0.5), **{by: next(scores)}))
    with caplog.at_level("INFO"):
        run.train(small_config(data, tmp_path / "run", epochs=3, optim=OptimConfig(best_by=by)))
    assert load_checkpoint(tmp_path / "run/best.pt")["epoch"] == best
    last = load_checkpoint(tmp_path / "run/step-00000009.pt")
    sign = -1 if by == "loss" else 1
    assert (last["epoch"], last["schedule"]["best"]) == (2, {"epoch": best, "score": sign * values[best]})
    ends = f"epoch {best} ({by} {values[best]:.4f}), the last checkpoint of epoch 2 ({by} {values[2]:.4f})"
    assert f"best.pt is of {ends}" in caplog.text


def judged_again(**data: Any) -> bool:
    """Whether a run that was judged by AUC on the set `one` can still be compared with what it was."""
    optim = OptimConfig(best_by=data.pop("best_by", "auc"), best_on=data.pop("best_on", None))
    config = TrainConfig(out="x", data=DataConfig(train="x", **{"val": "one", **data}), optim=optim)
    before = DataConfig(train="x", val="one")
    return is_comparable({"config": {"data": asdict(before)}, "schedule": {"by": "auc"}}, config)


def test_a_run_that_was_judged_by_another_measure_or_set_is_judged_anew() -> None:
    assert judged_again()
    assert not judged_again(best_by="loss")
    assert not judged_again(val="two")
    assert not judged_again(val={"one": "one", "two": "two"}, best_on="one")
    assert not judged_again(val_crop=128)
    assert not judged_again(val_filter="width > 3")
    old = {"config": {"data": {"val": "one"}}, "schedule": {}}  # of before there was a choice
    assert not is_comparable(old, TrainConfig(out="x", data=DataConfig(train="x", val="one")))


def test_a_schedule_that_begins_anew_keeps_the_rate_alone() -> None:
    def schedule() -> Schedule:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return Schedule(optimizer, OptimConfig(lr=1.0))

    before = schedule()
    before.rate = 0.5
    assert before.turn(summary(0.9), 0)
    same, anew = schedule(), schedule()
    same.load_state_dict(before.state_dict())
    anew.load_state_dict(before.state_dict(), anew=True)
    assert (same.best, anew.best, same.rate, anew.rate) == (before.best, None, 0.5, 0.5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"data": {"val": {"x": "b", "y": "c"}}}, "goes on with data.val={'x': 'b', 'y': 'c'}, before 'b'"),
        ({"data": {"val": None}}, "goes on with data.val=None, before 'b'"),
        ({"data": {"val": "b"}, "optim": {"layer_decay": 0.5}}, None),
        ({"data": {"val": "b"}, "augment": {"degrade_side": 9}}, None),
    ],
)
def test_a_checkpoint_that_lacks_an_option_has_its_default(
    given: dict[str, Any], told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    before = asdict(TrainConfig(out="x", data=DataConfig(train="a", val="b")))
    del before["optim"]["layer_decay"], before["augment"]["degrade_side"]
    config = TrainConfig(
        out="x",
        data=DataConfig(train="a", **given["data"]),
        optim=OptimConfig(**given.get("optim", {})),
        augment=AugmentConfig(**given.get("augment", {})),
    )
    if told is None:
        with pytest.raises(UserError, match="set it back, or choose another --out"):
            check_options(before, config)
    else:
        check_options(before, config)
        assert told in caplog.text
