"""Runs that are killed, asked to end, damaged and moved, and what they have become when they went on.

Everything is compared to the last bit with a run that nothing disturbed.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S
from s3_server import S3Env, upload
from train_data import make_dataset
from train_runs import (
    Plan,
    Ranks,
    as_argument,
    as_options,
    keys_of_steps,
    same_bits,
    small_config,
)

from train.model.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
PAIRS, VAL_PAIRS = 61, 7
EPOCHS, STEPS = 3, 8  # of an epoch, at a global batch of 8
LAST = EPOCHS * STEPS
EVERY = 3
KILLED, ASKED = -9, 75
SOAK = pytest.mark.soak

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": make_dataset(folder / "train", pairs=PAIRS, shard_pairs=16, size=(32, 40)),
        "val": make_dataset(folder / "val", pairs=VAL_PAIRS, shard_pairs=4, size=(32, 32), start=500),
    }


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return Ranks()


def options(data: dict[str, str], out: Path | str, **more: object) -> list[str]:
    config = small_config(data, out, epochs=EPOCHS, log_every=5, checkpoint_every=EVERY)
    return [*as_options(config), *(f"--{name}={value}" for name, value in more.items())]


@pytest.fixture(scope="module")
def undisturbed(data: dict[str, str], ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two ranks; beside it lie the keys of each step."""
    return run_undisturbed(2, data, ranks, tmp_path_factory.mktemp("reference"))


def run_undisturbed(size: int, data: dict[str, str], ranks: Ranks, folder: Path) -> Path:
    (folder / "keys").mkdir()
    plan = Plan(ranks=(), keys=str(folder / "keys"))
    statuses, text = ranks.run(size, options(data, folder / "run"), folder, plan)
    assert statuses == [0] * size, text
    return folder / "run"


def _log(path: Path) -> bytes:
    """The lines of a log; a bucket holds no empty one."""
    return path.read_bytes() if path.exists() else b""


def assert_equal_end(run: Path, undisturbed: Path) -> None:
    for name in ("metrics.jsonl", "quarantine.jsonl"):
        assert _log(run / name) == _log(undisturbed / name)
    parts = ("model", "epoch", "step", "val")
    more = ("optimizer", "schedule", "data", "stage", "quarantine")
    for name, kept in ((f"step-{LAST:08d}.pt", (*parts, *more)), ("best.pt", parts)):
        found, expected = load_checkpoint(run / name), load_checkpoint(undisturbed / name)
        for part in kept:
            assert same_bits(found[part], expected[part]), (name, part)


def saved_steps(run: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in run.glob("step-*.pt"))


def killed_and_resumed(
    size: int, data: dict[str, str], ranks: Ranks, folder: Path, plan: Plan, **more: object
) -> str:
    """What the resumed run said."""
    words = options(data, folder / "run", **more)
    statuses, text = ranks.run(size, words, folder, plan)
    assert statuses[0] == KILLED, text
    statuses, text = ranks.run(size, words, folder)
    assert statuses == [0] * size, text
    return text


def kill_steps(count: int) -> list[int]:
    return sorted(random.Random(3).sample(range(LAST), count))


@pytest.mark.parametrize("step", [1, *kill_steps(1), 22])
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path, step: int
) -> None:
    text = killed_and_resumed(2, data, ranks, tmp_path, Plan(step=step))
    assert ("goes on from" in text) == (step >= EVERY)
    assert_equal_end(tmp_path / "run", undisturbed)


@SOAK
@pytest.mark.parametrize("step", kill_steps(20))
def test_soak_killed_at_twenty_steps(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path, step: int
) -> None:
    killed_and_resumed(2, data, ranks, tmp_path, Plan(step=step), **{"data.workers": step % 2})
    assert_equal_end(tmp_path / "run", undisturbed)


@SOAK
def test_soak_four_ranks_killed(
    data: dict[str, str], ranks: Ranks, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reference = run_undisturbed(4, data, ranks, tmp_path_factory.mktemp("four"))
    killed_and_resumed(4, data, ranks, tmp_path, Plan(step=13))
    assert_equal_end(tmp_path / "run", reference)


@pytest.mark.parametrize("step", [EVERY, STEPS, pytest.param(LAST, marks=SOAK)])
def test_killed_in_the_midst_of_writing_a_checkpoint(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path, step: int
) -> None:
    killed_and_resumed(2, data, ranks, tmp_path, Plan(moment="publish", step=step, ranks=(0,)))
    assert_equal_end(tmp_path / "run", undisturbed)


@SOAK
def test_soak_killed_in_validation(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path
) -> None:
    killed_and_resumed(2, data, ranks, tmp_path, Plan(moment="validation", step=STEPS))
    assert_equal_end(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(
    ("plan", "saved"),
    [
        (Plan(signal="SIGTERM", moment="start", ranks=(1,)), []),
        (Plan(signal="SIGUSR1", step=4, ranks=(1,), times=2), [3, 6]),
        (Plan(signal="SIGTERM", step=STEPS - 2, ranks=(0, 1), to="group"), [3, 6, 8]),
        (Plan(signal="SIGTERM", moment="validation", step=STEPS, ranks=(1,)), [3, 6, 8]),
    ],
    ids=lambda value: value.moment + str(value.step) if isinstance(value, Plan) else "",
)
def test_a_signal_ends_all_ranks_with_75_and_nothing_is_lost(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path, plan: Plan, saved: list[int]
) -> None:
    workers = int(plan.to == "group")  # the loader's worker gets the signal too
    words = options(data, tmp_path / "run", **{"data.workers": workers})
    statuses, text = ranks.run(2, words, tmp_path, plan)
    assert statuses == [ASKED, ASKED], text
    assert text.count("asked to end") == 1
    assert "Traceback" not in text
    assert saved_steps(tmp_path / "run") == saved
    statuses, text = ranks.run(2, options(data, tmp_path / "run"), tmp_path)
    assert statuses == [0, 0], text
    assert_equal_end(tmp_path / "run", undisturbed)


def torchrun(
    plan: Plan, words: list[str], launcher: str = "launch/torchrun.py", **choices: object
) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, *launcher.split(), "--standalone", "--nproc-per-node=2"]
    launch += [f"--{name.replace('_', '-')}={value}" for name, value in choices.items()]
    return subprocess.run(
        [*launch, "tests/train_runs.py", as_argument(plan), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE_S,
        check=False,
    )


def test_torchrun_passes_sigterm_on_and_ends_with_75(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path
) -> None:
    words = options(data, tmp_path / "run", **{"data.workers": 1})
    ended = torchrun(Plan(signal="SIGTERM", to="parent", step=10, ranks=(1,)), words)
    assert ended.returncode == ASKED, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("asked to end") == 1
    statuses, text = ranks.run(2, words, tmp_path)
    assert statuses == [0, 0], text
    assert_equal_end(tmp_path / "run", undisturbed)


@SOAK
def test_soak_torchrun_passes_sigusr1_on(data: dict[str, str], undisturbed: Path, tmp_path: Path) -> None:
    words = options(data, tmp_path / "run", **{"data.workers": 1})
    ended = torchrun(Plan(signal="SIGUSR1", to="parent", step=17, ranks=(0,)), words)
    assert ended.returncode == ASKED, ended.stderr
    ended = torchrun(Plan(ranks=()), words)
    assert ended.returncode == 0, ended.stderr
    assert_equal_end(tmp_path / "run", undisturbed)


@SOAK
def test_soak_a_signal_while_ranks_wait_for_each_other_ends_with_75(
    data: dict[str, str], tmp_path: Path
) -> None:
    plan = Plan(moment="join", signal="SIGTERM", to="parent", ranks=(1,))
    ended = torchrun(plan, options(data, tmp_path / "run"))
    assert ended.returncode == ASKED, ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "launcher", ["launch/torchrun.py", pytest.param("-m torch.distributed.run", marks=SOAK)]
)
def test_torchrun_restarts_and_the_run_goes_on_by_itself(
    data: dict[str, str], undisturbed: Path, tmp_path: Path, launcher: str
) -> None:
    words = options(data, tmp_path / "run", resume="never")
    ended = torchrun(Plan(step=11, ranks=(1,)), words, launcher, max_restarts=1)
    assert ended.returncode == 0, ended.stderr
    assert "step-00000009.pt: epoch 1, step 9" in ended.stderr
    assert_equal_end(tmp_path / "run", undisturbed)


@SOAK
def test_soak_a_restart_does_not_take_up_the_run_that_the_first_start_refused(
    data: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    ended = torchrun(
        Plan(ranks=()), options(data, tmp_path / "run", resume="never", epochs=4), max_restarts=1
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("holds a run already") == 1, ended.stderr  # no second start, and one line
    assert_equal_end(tmp_path / "run", undisturbed)


def test_another_world_size_goes_on_with_the_same_pairs(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    words = options(data, tmp_path / "run", checkpoint_every=1)
    keys = str(tmp_path / "keys")
    statuses, text = ranks.run(2, words, tmp_path, Plan(step=12, keys=keys))
    assert statuses == [KILLED, KILLED], text
    statuses, text = ranks.run(1, words, tmp_path, Plan(signal="SIGTERM", step=17, keys=keys))
    assert statuses == [ASKED], text
    assert "goes on with ranks=1 (before 2)" in text
    statuses, text = ranks.run(4, words, tmp_path, Plan(ranks=(), keys=keys))
    assert statuses == [0] * 4, text
    assert keys_of_steps(tmp_path / "keys", LAST) == keys_of_steps(undisturbed.parent / "keys", LAST)


def test_what_only_rank_0_can_see_ends_all_ranks(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path
) -> None:
    statuses, text = ranks.run(2, options(data, undisturbed, resume="never"), tmp_path)
    assert statuses == [2, 2]
    assert text.count("holds a run already") == 2
    blocked = tmp_path / "run"
    (blocked / ".step-00000003.pt.partial").mkdir(parents=True)
    statuses, text = ranks.run(2, options(data, blocked), tmp_path)
    assert statuses == [2, 2]
    assert text.count("error: can't write") == 2, text
    assert "Traceback" not in text


def test_a_run_in_a_bucket_is_killed_and_goes_on(
    data: dict[str, str], ranks: Ranks, undisturbed: Path, tmp_path: Path, s3_env: S3Env
) -> None:
    there = {name: upload(s3_env.server, Path(url), f"{s3_env.url}/{name}") for name, url in data.items()}
    words = options(there, f"{s3_env.url}/run")
    statuses, text = ranks.run(2, words, tmp_path, Plan(step=11))
    assert statuses == [KILLED, KILLED], text
    statuses, text = ranks.run(2, words, tmp_path)
    assert statuses == [0, 0], text
    assert f"goes on from {s3_env.url}/run/step-00000009.pt" in text
    for key in s3_env.keys():
        if key.startswith("run/"):
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(s3_env.get(key))
    assert_equal_end(tmp_path / "run", undisturbed)
    names = [path.name for path in undisturbed.iterdir() if path.is_dir() or path.stat().st_size]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(names)


def test_the_launcher_hands_its_variables_to_torchrun() -> None:
    said = subprocess.run(
        ["bash", "launch/torchrun.sh", "--out", "a b"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"DRY_RUN": "1", "NPROC_PER_NODE": "2", "MAX_RESTARTS": "3"},
        check=True,
    ).stdout.splitlines()
    options = "--standalone --nnodes 1 --nproc-per-node 2 --max-restarts 3"
    assert said == ["one node, 2 processes", f"torchrun {options} -m train --out 'a b'"]
