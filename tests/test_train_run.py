"""Whole runs on small data: what they write, what they repeat, what they refuse."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from patience import PATIENCE_S
from train_data import make_sets
from train_ranks import NanOnBlack
from train_runs import Ranks

from pack.dataset.dataset import iterate_pairs
from pack.dataset.selection import select
from recon.base.errors import UserError
from train.command import main
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader
from train.loop import build, run
from train.loop.config import DataConfig, TrainConfig
from train.model.build import model_from_checkpoint
from train.model.checkpoint import load_checkpoint
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.order.config import OrderConfig
from train.output.run_folder import RunFolder
from train.world.world import World

ROOT = Path(__file__).parents[1]
PAIRS, VAL_PAIRS = 21, 7
STEPS = 3  # of an epoch, at a global batch of 8
LAST = "step-00000006.pt"  # after two epochs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=PAIRS, size=(40, 40), val_pairs=VAL_PAIRS)


def options(data: dict[str, str], where: Path, **more: object) -> list[str]:
    chosen: dict[str, object] = {
        "out": where,
        "data.train": data["train"],
        "data.val": data["val"],
        "data.val_crop": 32,
        "data.val_batch": 2,
        "augment.crop": 32,
        "order.global_batch": 8,
        "order.lanes": 8,
        "model.backbone": "highpass",
        "optim.lr": 0.002,
        "epochs": 2,
        "log_every": 2,
        "device": "cpu",
        "threads": 1,
        "data.workers": 0,
    }
    return [f"--{name}={value}" for name, value in (chosen | more).items()]


def command(words: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable} | variables,
        timeout=PATIENCE_S,
        check=False,
    )


def config(urls: dict[str, str], out: Path, **more: Any) -> TrainConfig:
    chosen: dict[str, Any] = {
        "data": DataConfig(train=urls["train"], val=urls["val"], val_crop=32, val_batch=2, workers=0),
        "augment": AugmentConfig(crop=32),
        "order": OrderConfig(global_batch=8, lanes=8),
        "model": ModelConfig(backbone="highpass"),
        "optim": OptimConfig(lr=0.002),
        "epochs": 2,
        "log_every": 2,
        "device": "cpu",
        "threads": 1,
    }
    return TrainConfig(out=str(out), **(chosen | more))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def two_ranks(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that torchrun started."""
    out = tmp_path_factory.mktemp("two") / "run"
    ended = command(["bash", "launch/torchrun.sh", *options(data, out)], NPROC_PER_NODE="2")
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return out


def test_torchrun_writes_checkpoints_metrics_and_tensorboard(two_ranks: Path) -> None:
    names = {path.name for path in two_ranks.iterdir()}
    checkpoints = {f"step-{step:08d}.pt" for step in (STEPS, 2 * STEPS)}
    logs = {"metrics.jsonl", "timing.jsonl", "quarantine.jsonl", "tensorboard"}
    assert names == checkpoints | logs | {"best.pt"}
    assert [path.stat().st_size > 0 for path in (two_ranks / "tensorboard").iterdir()] == [True]
    validations = [line for line in lines(two_ranks / "metrics.jsonl") if "val" in line]
    assert [line["epoch"] for line in validations] == [0, 1]
    assert all(line["val"]["n_real"] == line["val"]["n_fake"] == VAL_PAIRS for line in validations)


def test_metrics_cover_every_step_and_hold_no_time(two_ranks: Path) -> None:
    metrics = [line for line in lines(two_ranks / "metrics.jsonl") if "val" not in line]
    assert [line["step"] for line in metrics] == [2, 3, 4, 6]  # every second, and the rest of an epoch
    assert all(set(line) == {"step", "epoch", "loss", "lr", "left_out"} for line in metrics)
    timing = lines(two_ranks / "timing.jsonl")
    assert [line["step"] for line in timing] == [2, 3, 4, 6]
    assert all(0 <= line["waiting_share"] <= 1 for line in timing)


@pytest.fixture(scope="module")
def one_process(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of ``python -m train``."""
    out = tmp_path_factory.mktemp("one") / "run"
    ended = command([sys.executable, "-m", "train", *options(data, out)])
    assert ended.returncode == 0, ended.stderr
    assert "validation AUC" in ended.stderr
    return out


def test_one_process_trains_by_python_m_train(one_process: Path) -> None:
    content = load_checkpoint(one_process / LAST)
    assert (content["epoch"], content["step"]) == (1, 2 * STEPS)
    assert (content["data"]["epoch"], content["data"]["step"]) == (2, 0)


def test_an_equal_run_writes_equal_metrics_and_weights(
    data: dict[str, str], one_process: Path, tmp_path: Path
) -> None:
    run.train(config(data, tmp_path / "again"))
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == (one_process / "metrics.jsonl").read_bytes()
    folders = (one_process, tmp_path / "again")
    first, second = (load_checkpoint(folder / LAST)["model"] for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("size", [1, 2])
def test_the_loaders_of_a_run_see_each_pair_once_at_the_same_step(
    data: dict[str, str], tmp_path: Path, size: int
) -> None:
    def steps(size: int) -> list[set[str]]:
        ranks = [run.build_loaders(config(data, tmp_path), world_of(rank, size))[0] for rank in range(size)]
        return [set().union(*(batch.keys for batch in batches)) for batches in zip(*ranks, strict=True)]

    assert steps(size) == steps(1)
    assert set().union(*steps(size)) == {pair.key for pair in iterate_pairs(data["train"])}
    assert sum(map(len, steps(size))) == PAIRS


def world_of(rank: int, size: int) -> World:
    return World(rank=rank, size=size, local_rank=rank, local_size=size, device=torch.device("cpu"))


def test_a_checkpoint_rebuilds_the_detector_and_says_how_it_came_to_be(
    data: dict[str, str], two_ranks: Path
) -> None:
    best, last = (load_checkpoint(two_ranks / name) for name in ("best.pt", LAST))
    assert last["schedule"]["best"] == {"epoch": best["epoch"], "score": best["val"]["auc"]}
    assert last["config"]["data"]["train"] == data["train"]
    assert last["optimizer"]["state"]
    assert last["schedule"]["plateau"]["last_epoch"] == 2
    for content in (best, last):  # earlier versions kept in best.pt what the last one holds
        model = model_from_checkpoint(content).eval()
        assert model(torch.zeros(2, 3, 20, 20)).shape == (2,)


def test_best_pt_holds_the_detector_alone_and_gives_the_first_weights_of_another_run(
    data: dict[str, str], two_ranks: Path, tmp_path: Path
) -> None:
    best = load_checkpoint(two_ranks / "best.pt")
    assert set(best) == {"format", "config", "model", "epoch", "step", "val"}
    assert (two_ranks / "best.pt").stat().st_size < (two_ranks / LAST).stat().st_size / 2
    model = ModelConfig(backbone="highpass", weights=str(two_ranks / "best.pt"))
    first = build.seeded_model(config(data, tmp_path, model=model), resumed=False).state_dict()
    assert all(torch.equal(first[name], best["model"][name]) for name in best["model"])


def test_a_directory_that_holds_a_run_is_refused(data: dict[str, str], two_ranks: Path) -> None:
    before = {path: path.read_bytes() for path in two_ranks.glob("*.*")}
    with pytest.raises(UserError, match="holds a run already; go on with it by --resume auto"):
        run.train(config(data, two_ranks))
    assert {path: path.read_bytes() for path in two_ranks.glob("*.*")} == before


def test_a_filter_is_evaluated_once_and_told_to_all_ranks(data: dict[str, str], tmp_path: Path) -> None:
    chosen = options(data, tmp_path / "run", **{"data.filter": "pair_id % 2 == 0", "epochs": 1})
    ranks = Ranks()
    statuses, said = ranks.run(2, chosen, tmp_path)
    assert statuses == [0, 0], said
    assert said.count("filter: ") == 1
    taken = sum(pair.pair_id % 2 == 0 for pair in iterate_pairs(data["train"]))
    assert 0 < taken < PAIRS
    assert f"epoch 0: {taken}/{taken} pairs" in said
    (first,) = (tmp_path / "run").glob("step-*.pt")
    state = load_checkpoint(first)["data"]
    (file,) = (tmp_path / "run").glob("selection-*.npz")
    statuses, again = ranks.run(2, [*chosen, "--resume=auto"], tmp_path)
    assert statuses == [0, 0], again
    assert "filter: " not in again
    file.write_bytes(file.read_bytes()[:-9])
    statuses, spoilt = ranks.run(1, [*chosen, "--resume=auto", "--epochs=2"], tmp_path)
    assert statuses == [0], spoilt
    assert spoilt.count("filter: ") == 1
    (second,) = set((tmp_path / "run").glob("step-*.pt")) - {first}
    assert state["filters"][0] == load_checkpoint(second)["data"]["filters"][0]
    changed = ["--resume=auto", "--epochs=3", "--data.filter=width > 1"]
    statuses, other = ranks.run(1, [*chosen, *changed], tmp_path)
    assert statuses == [2]
    assert "state has filters=" in other


def test_a_limit_takes_the_same_pairs_in_every_epoch(data: dict[str, str], tmp_path: Path) -> None:
    def seen(seed: int, **options: Any) -> list[set[str]]:
        given = DataConfig(train=data["train"], workers=0, **options)
        asked = config(data, tmp_path, data=given, order=OrderConfig(global_batch=8, lanes=8, seed=seed))
        loader = build.training_loader(asked, world_of(0, 1))
        return [{key for batch in loader for key in batch.keys} for _ in range(3)]

    first, *others = seen(0, limit=7)
    assert len(first) == 7
    assert others == [first, first]
    assert seen(1, limit=7)[0] != first
    assert seen(0, limit=10**6) == seen(0)


def test_a_limit_above_a_dataset_is_told_once(
    data: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for limit in (PAIRS, PAIRS + 1):
        given = DataConfig(train=data["train"], workers=0, limit=limit)
        asked = config(data, tmp_path, data=given, order=OrderConfig(global_batch=8, lanes=8))
        for rank in (0, 1):
            build.build_loaders(asked, world_of(rank, 2))
    assert caplog.messages == [f"data.limit={PAIRS + 1} leaves all {PAIRS} pairs of {data['train']}"]


def test_a_limit_takes_some_of_what_a_filter_leaves(data: dict[str, str]) -> None:
    even = {pair.key for pair in iterate_pairs(data["train"]) if pair.pair_id % 2 == 0}
    chosen = build.limited(partial(select, text="pair_id % 2 == 0"), 3, seed=0)
    with closing(PairLoader(data["train"], batch_size=8, workers=0, filter=chosen)) as loader:
        some = {key for batch in loader for key in batch.keys}
    assert len(some) == 3
    assert some < even


def test_without_validation_every_epoch_is_the_best(data: dict[str, str], tmp_path: Path) -> None:
    run.train(config(data, tmp_path / "run", data=DataConfig(train=data["train"], workers=0), epochs=1))
    assert load_checkpoint(tmp_path / "run/best.pt")["val"] is None
    assert [line["step"] for line in lines(tmp_path / "run/metrics.jsonl")] == [2, 3]


@pytest.mark.parametrize("limit", [0, 2])
def test_too_many_non_finite_steps_stop_the_run(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    class Broken(NanOnBlack):
        def forward(self, x_N3HW: torch.Tensor) -> torch.Tensor:
            return super().forward(x_N3HW) * float("inf")

    monkeypatch.setattr(build, "first_model", lambda _config: Broken())
    complaint = f"{limit + 1} steps had a non-finite loss, the last is step {limit + 1}; lower optim.lr"
    with pytest.raises(UserError, match=complaint):
        run.train(config(data, tmp_path / "run", optim=OptimConfig(max_nonfinite=limit)))
    assert not list(tmp_path.glob("run/*.pt"))


def mistakes(folder: Path) -> dict[str, tuple[dict[str, object], str]]:
    (folder / "file").write_text("")
    return {
        "no dataset": ({"data.train": folder / "none"}, "dataset.json not found"),
        "no validation set": ({"data.val": folder / "none"}, "dataset.json not found"),
        "unknown backbone": ({"model.backbone": "res51"}, "unknown backbone 'res51', expected one of"),
        "no weights": ({"model.weights": folder / "w.pt"}, "w.pt: no such file"),
        "device": ({"device": "abacus"}, "device 'abacus' can't be used"),
        "out is no URL": ({"out": "pigeon://bucket/run"}, "can't open pigeon://bucket/run"),
        "out is a file": ({"out": folder / "file"}, "file"),
        "no epoch": ({"epochs": 0}, "epochs=0, expected at least 1"),
        "crop": ({"augment.crop": 300}, "exceeds the resized crop's 256"),
        "precision": ({"precision": "float8"}, "precision"),
        "unknown option": ({"optim.momentum": 1}, "optim.momentum"),
    }


def test_mistakes_end_with_status_2_and_one_line(
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for case, (changed, complaint) in mistakes(tmp_path).items():
        out = tmp_path / f"out of {case}"
        monkeypatch.setattr(sys, "argv", ["train", *options(data, out, **changed)])
        with pytest.raises(SystemExit) as ended:
            main()
        error = capsys.readouterr().err
        assert (case, ended.value.code) == (case, 2)
        assert complaint in error, (case, error)
        assert error.count("error: ") == 1, (case, error)
        assert "Traceback" not in error
        assert not list(out.glob("*")), case


def test_an_uneven_world_is_one_line_and_status_2(
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def three_ranks(*_: object) -> Iterator[World]:
        yield world_of(0, 3)

    monkeypatch.setattr(run, "open_world", three_ranks)
    monkeypatch.setattr(run, "agree_on_options", lambda *_: None)  # there are no other ranks to ask
    monkeypatch.setattr(sys, "argv", ["train", *options(data, tmp_path / "run", **{"order.lanes": 9})])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error == "error: global_batch=8 is not a multiple of the world size 3; use 6 or 9\n"


def test_a_directory_that_another_run_writes_to_is_refused_before_anything_is_told(
    data: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run.train(config(data, tmp_path / "run"))
    caplog.set_level(logging.INFO)
    with closing(RunFolder(str(tmp_path / "run"), {})):
        written = (tmp_path / "run/metrics.jsonl").read_bytes()
        caplog.clear()
        with pytest.raises(UserError, match="another process still trains in"):
            run.train(config(data, tmp_path / "run", resume="auto", epochs=100))
        assert (tmp_path / "run/metrics.jsonl").read_bytes() == written
    assert "goes on from" not in caplog.text


def test_a_full_disk_is_one_line(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Path.open

    def open_or_full(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name != "metrics.jsonl":
            return real_open(path, *arguments, **more)
        real = real_open(path, *arguments, **more)
        kept = {name: getattr(real, name) for name in ("fileno", "truncate")}
        return SimpleNamespace(write=full, flush=full, close=lambda: (real.close(), full()), **kept)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", open_or_full)
    with pytest.raises(UserError, match=r"can't write \S+metrics\.jsonl: No space left on device"):
        run.train(config(data, tmp_path / "run"))


def test_the_command_shows_no_traceback_of_a_mistake(data: dict[str, str], tmp_path: Path) -> None:
    arguments = options(data, tmp_path / "run", **{"data.train": "gone"})
    ended = command([sys.executable, "-m", "train", *arguments])
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: gone/dataset.json not found")
    assert ended.stderr.count("\n") == 1
