"""Which checkpoint a run goes on from, on a directory and on a URL, and what it refuses to go on with."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from train_data import make_sets
from train_runs import same_bits, small_config, stop_at

from pack.storage import Store, open_store
from recon.base.errors import UserError
from train.draws.config import AugmentConfig
from train.loop import run
from train.loop.trainee import Trainee
from train.model.checkpoint import checkpoint_names, load_checkpoint, remove_old
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.order.config import OrderConfig
from train.world.launch import Launch
from train.world.stop import Preempted, StopFlag

STEPS = 4  # of an epoch
NAMES = [f"step-{step:08d}.pt" for step in (4, 6, 8)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=31, size=(24, 24), val_pairs=5)


@pytest.fixture(scope="module")
def finished(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    run.train(small_config(data, out))
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def contents(out: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def assert_equal_end(out: Path, finished: Path) -> None:
    assert (out / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    parts = ("model", "val", "epoch", "step")
    for name, kept in ((NAMES[-1], (*parts, "optimizer", "schedule")), ("best.pt", parts)):
        found, expected = load_checkpoint(out / name), load_checkpoint(finished / name)
        assert all(same_bits(found[part], expected[part]) for part in kept)


def test_the_newest_checkpoints_are_kept(finished: Path) -> None:
    names = sorted(path.name for path in finished.glob("*.pt"))
    assert names == ["best.pt", *NAMES]  # 3 went


def test_removing_leaves_newer_checkpoints_and_other_files(tmp_path: Path) -> None:
    names = [f"step-{step:08d}.pt" for step in (3, 10, 200, 999999999)]
    for name in (*names, "best.pt", "step-1.pt", "step-00000001.pt.bak"):
        (tmp_path / name).write_bytes(b"")
    store = open_store(str(tmp_path))
    assert checkpoint_names(store) == names[::-1]
    remove_old(store, keep=1, step=200)
    assert checkpoint_names(store) == [names[3], names[2]]
    assert (tmp_path / "step-1.pt").exists()


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_finished_run_has_nothing_to_do(
    data: dict[str, str], copy: Path, resume: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(copy)
    again = small_config(data, copy, resume=resume)
    if resume == "never":
        with pytest.raises(UserError, match="holds a run already; go on with it by --resume auto"):
            run.train(again)
    else:
        caplog.set_level(logging.INFO)
        run.train(again)
        assert f"nothing to do: the run in {copy} ended after epoch 1, step 8; raise --epochs" in caplog.text
    assert contents(copy) == before


def test_a_run_stopped_amid_an_epoch_past_the_last_has_nothing_to_do(
    data: dict[str, str], copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / NAMES[-1]).unlink()  # the one before was saved amid epoch 1
    before = contents(copy)
    caplog.set_level(logging.INFO)
    run.train(small_config(data, copy, resume="auto", epochs=1))
    assert f"nothing to do: the run in {copy} ended after epoch 1" in caplog.text
    assert contents(copy) == before


def test_a_finished_run_goes_on_with_more_epochs(data: dict[str, str], copy: Path, tmp_path: Path) -> None:
    run.train(small_config(data, copy, epochs=3))
    run.train(small_config(data, tmp_path / "whole", epochs=3))
    assert (copy / "metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


@pytest.mark.parametrize("launch", [Launch(), Launch(job="a", restarts=1)])
@pytest.mark.parametrize("resume", ["never", "auto"])
def test_no_run_begins_over_a_best_pt(data: dict[str, str], copy: Path, resume: str, launch: Launch) -> None:
    for name in NAMES:
        (copy / name).unlink()
    before = contents(copy)
    with pytest.raises(UserError, match=r"holds a run's best\.pt, but no step-\*\.pt to go on from"):
        run.train(small_config(data, copy, resume=resume), launch=launch)
    assert contents(copy) == before


def test_a_best_pt_under_a_checkpoint_s_name_is_refused(data: dict[str, str], copy: Path) -> None:
    shutil.copy(copy / "best.pt", copy / "step-00000009.pt")
    with pytest.raises(UserError, match=r"step-00000009\.pt is a detector alone, as best\.pt is"):
        run.train(small_config(data, copy))


def test_a_kill_between_the_first_best_pt_and_its_checkpoint_keeps_no_run_from_going_on(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small_config({"train": data["train"]}, tmp_path / "run", checkpoint_every=100)
    publish = run.publish_checkpoint

    def publish_best_alone(store: Store, name: str, content: memoryview) -> None:
        publish(store, name, content)
        if name == "best.pt":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "publish_checkpoint", publish_best_alone)
        with pytest.raises(KeyboardInterrupt):
            run.train(alone)
    run.train(alone)
    assert (tmp_path / "run" / NAMES[-1]).exists()


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_taken(
    data: dict[str, str], finished: Path, copy: Path, caplog: pytest.LogCaptureFixture, damaged: int
) -> None:
    for name in NAMES[-damaged:]:
        damage(copy / name)
    run.train(small_config(data, copy))
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == damaged
    assert all(f"{name} is damaged" in text for name, text in zip(NAMES[::-1], told, strict=False))
    assert_equal_end(copy, finished)


def test_a_cut_checkpoint_is_damaged_too(data: dict[str, str], finished: Path, copy: Path) -> None:
    (copy / NAMES[-1]).write_bytes((copy / NAMES[-1]).read_bytes()[:1000])
    (copy / NAMES[-2]).write_bytes(b"")
    run.train(small_config(data, copy))
    assert_equal_end(copy, finished)


def test_only_damaged_checkpoints_are_an_error(data: dict[str, str], copy: Path) -> None:
    for name in NAMES:
        damage(copy / name)
    with pytest.raises(UserError, match=r"none of the 3 checkpoints in .* is whole"):
        run.train(small_config(data, copy))


def test_without_a_checkpoint_auto_begins(data: dict[str, str], finished: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.jsonl").write_text("of a run that was killed early\n")
    run.train(small_config(data, tmp_path / "run"))
    assert_equal_end(tmp_path / "run", finished)


def test_a_restart_goes_on_with_its_own_run_alone(
    data: dict[str, str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_config(data, tmp_path / "run", resume="never")
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(first, launch=Launch(job="a"), stop=stop_at(5, patched))
    with pytest.raises(UserError, match="holds a run already"):
        run.train(first, launch=Launch(job="b", restarts=1))
    run.train(first, launch=Launch(job="a", restarts=1))
    assert_equal_end(tmp_path / "run", finished)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"optim": OptimConfig(lr=0.1)}, "optim.lr was 0.002 when the run in .* began and is 0.1 now"),
        ({"augment": AugmentConfig(crop=24)}, "augment.crop was 16"),
        ({"model": ModelConfig(backbone="res18nodown")}, "model.backbone was 'highpass'"),
        ({"order": OrderConfig(global_batch=8, lanes=8, block=2)}, "lanes=16.*the order would change"),
    ],
)
def test_options_that_make_another_run_are_refused(
    data: dict[str, str], copy: Path, changed: dict[str, Any], complaint: str
) -> None:
    before = contents(copy)
    with pytest.raises(UserError, match=complaint):
        run.train(small_config(data, copy, epochs=3, **changed))
    assert contents(copy) == before


def test_options_that_change_what_follows_are_named(
    data: dict[str, str], copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(data["train"], moved)
    chosen = small_config(data, copy, epochs=3, optim=OptimConfig(lr=0.002, patience=2))
    run.train(replace(chosen, data=replace(chosen.data, train=str(moved), threads=1)))
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert told == ["goes on with optim.patience=2, before 1"]


def test_the_file_of_first_weights_is_not_needed_to_go_on(
    data: dict[str, str], copy: Path, tmp_path: Path
) -> None:
    gone = ModelConfig(backbone="highpass", weights=str(tmp_path / "gone.pt"))
    run.train(small_config(data, copy, epochs=3, model=gone))
    assert (copy / "step-00000012.pt").exists()


def test_timing_keeps_what_was_done_twice_and_metrics_does_not(data: dict[str, str], copy: Path) -> None:
    (copy / NAMES[-1]).unlink()
    run.train(small_config(data, copy))
    steps = [json.loads(line)["step"] for line in (copy / "timing.jsonl").read_text().splitlines()]
    assert steps == [3, 4, 6, 8, 8]


@pytest.mark.parametrize("step", [2, 4, 5])
def test_a_run_on_a_url_is_stopped_and_goes_on_without_its_machine(
    data: dict[str, str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    out = f"memory://runs/{step}"
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(small_config(data, out), stop=stop_at(step, patched))
    run.train(small_config(data, out))
    files = fsspec.filesystem("memory")
    files.get(f"/runs/{step}/", str(tmp_path / "run") + "/", recursive=True)
    assert_equal_end(tmp_path / "run", finished)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        path.name
        for path in finished.iterdir()
        if path.is_dir() or path.stat().st_size  # no object is empty
    )
    assert len(list((tmp_path / "run/tensorboard").iterdir())) == 2  # of each start
    assert load_checkpoint(f"{out}/best.pt")["step"] == load_checkpoint(finished / "best.pt")["step"]


def test_what_a_failed_run_on_a_url_logged_is_kept(
    data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Trainee, _batches: object) -> None:
        raise UserError("enough")

    monkeypatch.setattr(Trainee, "validate", fail)
    with pytest.raises(UserError, match="enough"):
        run.train(small_config(data, "memory://failed", checkpoint_every=100))
    lines = open_store("memory://failed").read("metrics.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 4]


def test_a_stop_before_the_first_step_leaves_nothing(data: dict[str, str], tmp_path: Path) -> None:
    stop = StopFlag()
    stop.is_set = True
    with pytest.raises(Preempted, match="before the first step"):
        run.train(small_config(data, tmp_path / "run"), stop=stop)
    assert not (tmp_path / "run").exists()


@pytest.mark.soak
@pytest.mark.parametrize("step", range(2, 2 * STEPS + 1))
def test_soak_a_stop_at_every_step_changes_nothing(
    data: dict[str, str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(small_config(data, tmp_path / "run"), stop=stop_at(step, patched))
    found = STEPS if step == STEPS + 1 else step  # set at an epoch's end, the flag is found in validation
    assert checkpoint_names(open_store(str(tmp_path / "run")))[0] == f"step-{found:08d}.pt"
    run.train(small_config(data, tmp_path / "run"))
    assert_equal_end(tmp_path / "run", finished)
