"""Where the curves go: TensorBoard's neighbours, each through its own package."""

import json
import logging
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import torch
from train_data import make_dataset

from recon.base.errors import UserError
from train.evaluation.metrics import Summary
from train.loop.config import DataConfig, TrainConfig
from train.loop.run import train
from train.loop.validation import mean_of
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.order.config import OrderConfig
from train.output.boards import Prometheus, RunFacts, open_boards

PAIRS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("boards")
    return {
        name: make_dataset(folder / name, pairs=PAIRS, shard_pairs=PAIRS, start=100 * number)
        for number, name in enumerate(("train", "one", "two"))
    }


def config(data: dict[str, str], out: Path, **more: Any) -> TrainConfig:
    optim = more.pop("optim", OptimConfig(bn_batches=0))
    sets = more.pop("val", {"first": data["one"], "second": data["two"]})
    return TrainConfig(
        out=str(out),
        data=DataConfig(train=data["train"], val=sets, val_crop=32, workers=0),
        order=OrderConfig(global_batch=4, lanes=4),
        model=ModelConfig(backbone="highpass"),
        optim=optim,
        epochs=2,
        log_every=1,
        device="cpu",
        **more,
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_several_sets_are_validated_and_judged_together_or_by_one(
    data: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(config(data, tmp_path / "mean", profile=2))
    found = [line for line in lines(tmp_path / "mean") if "val" in line]
    for line in found:
        first, second = (line["sets"][name] for name in ("first", "second"))
        assert line["val"]["auc"] == pytest.approx((first["auc"] + second["auc"]) / 2)
        assert line["val"]["n_real"] == first["n_real"] + second["n_real"] == 2 * PAIRS
    assert "validation on second AUC" in caplog.text
    # What the run waited for, and the trace that was asked for.
    assert "steps " in caplog.messages[-1]
    assert "data " in caplog.messages[-1]
    assert "validation " in caplog.messages[-1]
    trace = json.loads((tmp_path / "mean" / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"loader", "step", "transfer"} <= names

    optim = OptimConfig(bn_batches=0, best_on="second")
    train(config(data, tmp_path / "one", optim=optim))
    again = [line for line in lines(tmp_path / "one") if "val" in line]
    assert [line["val"] for line in again] == [line["sets"]["second"] for line in again]
    assert [line["sets"] for line in again] == [line["sets"] for line in found]
    newest = torch.load(tmp_path / "one" / "step-00000006.pt", weights_only=True)
    assert newest["val"] == again[-1]["val"]
    assert newest["schedule"]["by"] == "auc on second"


@pytest.mark.parametrize("failing", ["add", "flush", "close"])
def test_what_only_shows_a_run_does_not_end_it(
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: str,
) -> None:
    def full(self: Prometheus, *_: Any, **__: Any) -> None:
        if self._gauges or failing == "add":  # not yet when the run opens it
            raise UserError("no space left")

    monkeypatch.setattr(Prometheus, failing, full)
    places = {"prometheus": str(tmp_path / "run.prom"), "profile": 9}
    train(config(data, tmp_path / "run", val=data["one"], **places))
    assert caplog.text.count("Prometheus gets no more points: no space left") == 1
    assert "profile=9, but 3 steps could be recorded: the run had 6" in caplog.text
    assert not any("sets" in line for line in lines(tmp_path / "run"))  # of one set without a name


def test_sets_that_are_not_there_are_refused(data: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"optim\.best_on=third, expected a set .* first, second"):
        config(data, tmp_path, optim=OptimConfig(best_on="third"))
    for name in ("", "a/b", "flux (1)", "a@b"):  # which trackers would refuse, or mix up
        with pytest.raises(UserError, match=r"a set is called .*, expected letters, digits"):
            config(data, tmp_path, val={name: data["one"]})
    with pytest.raises(UserError, match=r"data\.val=\{\}"):
        config(data, tmp_path, val={})
    for optim in ({"best_by": "loss"}, {"stop_after": 3}):
        with pytest.raises(UserError, match=r"optim\..* there is no data\.val"):
            TrainConfig(out="x", data=DataConfig(train="x"), optim=OptimConfig(**optim))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"prometheus=foo, expected a file"):
        config(data, tmp_path, prometheus="foo")
    with pytest.raises(UserError, match="profile=-1"):
        config(data, tmp_path, profile=-1)


def test_a_mean_skips_what_a_set_does_not_have() -> None:
    def summary(auc: float | None, reals: int) -> Summary:
        return Summary(
            ap=None, auc=auc, balanced_accuracy=None, accuracy=0.5, real_accuracy=None, fake_accuracy=1.0,
            n_real=reals, n_fake=3,
        )  # fmt: skip

    found = mean_of([summary(0.5, 0), summary(None, 2), summary(1.0, 4)])
    assert (found.auc, found.n_real, found.n_fake, found.ap, found.accuracy) == (0.75, 6, 9, None, 0.5)


def facts(out: str = "runs/one", id: str = "abc", step: int = 0) -> RunFacts:
    return RunFacts(out=out, id=id, step=step, options={"optim": {"lr": 0.1}, "epochs": 2})


def test_prometheus_reads_the_newest_values_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    boards = open_boards(facts(), tmp_path / "tensorboard", "none", str(path))
    for step in (1, 2):
        for board in boards:
            board.add({"train/loss": 0.5 / step, "quarantine/real can't be decoded": 1.0}, step)
            board.add({"val/auc": 0.5, "val/fake/auc": 0.25, "val/fake_accuracy": 0.75}, step)
            board.add({"val/a-1/fake_accuracy": 0.5, "val/a_1/fake_accuracy": 1.0}, step)
    text = path.read_text()
    assert 'pairstream_train_loss{out="runs/one",set=""} 0.25' in text
    assert 'pairstream_step{out="runs/one",set=""} 2.0' in text
    assert 'pairstream_quarantine_real_can_t_be_decoded{out="runs/one",set=""} 1.0' in text
    for name, value in {"": 0.75, "a-1": 0.5, "a_1": 1.0}.items():
        assert f'pairstream_val_fake_accuracy{{out="runs/one",set="{name}"}} {value}' in text
    assert 'pairstream_val_auc{out="runs/one",set="fake"} 0.25' in text
    for board in boards:
        board.close()


def test_prometheus_asks_an_endpoint() -> None:
    board = Prometheus("127.0.0.1:0", "runs/one")
    try:
        board.add({"val/auc": 0.75}, 3)
        with urlopen(f"http://127.0.0.1:{board.port}/metrics", timeout=60) as answer:
            assert 'pairstream_val_auc{out="runs/one",set=""} 0.75' in answer.read().decode()
    finally:
        board.close()


@pytest.mark.parametrize("place", ["run.txt", "host:port", "", "127.0.0.1:²"])
def test_a_place_that_prometheus_has_not_is_refused(place: str) -> None:
    with pytest.raises(UserError, match=r"expected a file NAME\.prom, HOST:PORT or :PORT"):
        Prometheus(place, "runs/one")


def test_a_file_that_prometheus_cannot_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prometheus=.*No such file or directory"):
        Prometheus(str(tmp_path / "none" / "run.prom"), "runs/one")


def test_mlflow_gets_the_points_and_goes_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # 3.x wants a server or a database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    for step in (1, 2):
        *_, board = open_boards(facts(step=step), tmp_path / "tensorboard", "mlflow", None)
        board.add({"train/loss": 1.0 / step, "quarantine/real can't be decoded": 1.0}, step)
        board.close()
    client = mlflow.tracking.MlflowClient()
    experiment = client.get_experiment_by_name("pairstream").experiment_id
    (run,) = client.search_runs([experiment])
    assert (run.info.run_name, run.info.status) == ("runs/one", "FINISHED")
    assert run.data.params == {"optim.lr": "0.1", "epochs": "2"}
    assert "quarantine/real can_t be decoded" in run.data.metrics
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]


def test_weights_and_biases_gets_the_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    *_, board = open_boards(facts(), tmp_path / "tensorboard", "wandb", None)
    board.add({"train/loss": 0.5}, 1)
    board.close()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-abc")
    assert any(folder.glob("*.wandb"))


@pytest.mark.parametrize(("service", "package"), [("wandb", "wandb"), ("mlflow", "mlflow-skinny")])
def test_a_missing_package_is_named(
    service: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, service, None)
    with pytest.raises(UserError, match=f"{service} is not installed; pip install {package}"):
        open_boards(facts(), tmp_path, service, None)
