"""The loader's worker process: the same bytes, no fork, no orphan, no hang."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
import webdataset as wds
from conftest import Finished, python
from patience import PATIENCE_S
from train_data import PAIRS, assert_equal, make_dataset, steps_of, world

from recon.base.errors import UserError
from train.loader.loader import PairLoader
from train.loader.messages import SLOTS
from train.loader.packing import pickled
from train.loader.transfer import Batch
from train.stream.samples import Sample

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


@pytest.fixture
def loader(url: str) -> Iterator[PairLoader]:
    (one,) = world(url, 1, workers=1)
    yield one
    one.close()


def pid_of(loader: PairLoader) -> int:
    assert loader._worker
    return loader._worker._process.pid


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not asked yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_gives_the_bytes_that_the_trainer_itself_would(url: str) -> None:
    with_workers = world(url, 2, workers=1)
    without = world(url, 2)
    for _ in range(3):
        assert_equal(steps_of(with_workers), steps_of(without))
    for one in with_workers:
        one.close()


def test_a_batch_is_the_trainers_to_keep(loader: PairLoader, url: str) -> None:
    kept, fresh = list(loader), list(*world(url, 1))
    assert all(torch.equal(a.images, b.images) for a, b in zip(kept, fresh, strict=True))


@pytest.mark.parametrize("taken", [1, 3])
def test_a_loop_that_is_left_goes_on_where_it_was(loader: PairLoader, url: str, taken: int) -> None:
    (whole,) = world(url, 1)
    expected = steps_of([whole])
    batches = iter(loader)
    for _ in islice(batches, taken):
        pass
    batches.close()  # type: ignore[attr-defined]
    assert loader.state_dict()["step"] == taken
    pid = pid_of(loader)
    assert_equal(steps_of([loader]), expected[taken:])
    assert pid_of(loader) == pid


def test_a_loop_that_another_overtook_says_so(loader: PairLoader) -> None:
    first, second = iter(loader), iter(loader)
    next(first)
    next(second)
    with pytest.raises(UserError, match="started anew while this loop still ran"):
        next(first)


def begun(loader: PairLoader) -> Iterator[Batch]:
    """A loop whose worker can't have made all batches: it waits for slots that are not given back."""
    assert len(loader) > 1 + SLOTS
    batches = iter(loader)
    next(batches)
    return batches


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_dead_worker_is_an_error_at_once(loader: PairLoader, number: signal.Signals) -> None:
    batches = begun(loader)
    os.kill(pid_of(loader), number)
    with pytest.raises(UserError, match=f"the loader's worker was ended by {number.name}"):
        list(batches)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_meant_for_the_trainer_leave_it_alone(loader: PairLoader, number: signal.Signals) -> None:
    batches = begun(loader)
    os.kill(pid_of(loader), number)
    assert len(list(batches)) == len(loader) - 1


def test_it_dies_with_its_parent(url: str) -> None:
    script = (
        "import sys\n"
        "from train import PairLoader\n"
        "loader = PairLoader(sys.argv[1], batch_size=4, lanes=6, block=2)\n"
        "next(iter(loader))\n"
        "print(loader._worker._process.pid, flush=True)\n"
        "sys.stdin.read()\n"  # until it is killed
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
    wait_until(lambda: not lives(pid))


def test_it_is_gone_after_close_and_after_the_loader(url: str) -> None:
    (one,) = world(url, 1, workers=1)
    next(iter(one))
    pid = pid_of(one)
    one.close()
    assert not lives(pid)
    assert one._worker is None
    next(iter(one))
    pid = pid_of(one)
    del one
    wait_until(lambda: not lives(pid))


def run_script(text: str, folder: Path, url: str) -> Finished:
    """Runs a script that lies in a folder of its own, as a user's does."""
    script = folder / "plain.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, script, url],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_a_script_needs_no_main_guard(url: str, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom train import PairLoader\n"
        "loader = PairLoader(sys.argv[1], batch_size=5, lanes=6, block=2)\n"
        "print(sum(len(batch.keys) for batch in loader))\n"
    )
    ended = run_script(script, tmp_path, url)
    assert (ended.stdout, ended.stderr) == (f"{PAIRS}\n", "")


def fake_becomes_real(sample: Sample) -> Sample:
    return sample | {"fake.png": sample["real.png"]}


def fail(sample: Sample) -> Sample:
    raise ZeroDivisionError(f"planted at {sample['__position__']}")


def test_stages_of_a_module_go_to_it(url: str) -> None:
    (one,) = world(url, 1, workers=1, stages=[wds.map(fake_becomes_real)])
    assert all(torch.equal(image[0], image[1]) for step in steps_of([one]) for image in step.values())
    one.close()


def test_a_stage_that_cannot_go_to_it_is_refused(url: str) -> None:
    (one,) = world(url, 1, workers=1, stages=[wds.map(lambda sample: sample)])
    with pytest.raises(UserError, match=r"can't be sent to the loader's worker .* or use workers=0"):
        next(iter(one))


def test_a_stage_of_the_script_itself_is_refused_in_words(url: str, tmp_path: Path) -> None:
    script = (
        "import sys, webdataset as wds\nfrom train import PairLoader\n"
        "def same(sample): return sample\n"
        "next(iter(PairLoader(sys.argv[1], batch_size=5, lanes=6, stages=[wds.map(same)])))\n"
    )
    ended = run_script(script, tmp_path, url)
    assert "not in the script that is run, or use workers=0" in ended.stderr


def test_a_new_loop_starts_a_new_worker_after_one_died_in_a_loop(loader: PairLoader) -> None:
    batches = begun(loader)
    os.kill(pid_of(loader), signal.SIGKILL)
    with pytest.raises(UserError, match="ended by SIGKILL"):
        list(batches)
    taken = loader.state_dict()["step"]
    assert len(list(loader)) == len(loader) - taken


def test_a_new_loop_starts_a_new_worker_after_one_died_between_loops(loader: PairLoader) -> None:
    next(iter(loader))
    assert loader._worker
    process = loader._worker._process
    process.kill()
    process.wait()  # a loop that begins while it still dies meets its death as an error
    assert len(list(loader)) == len(loader) - 1
    assert pid_of(loader) != process.pid


def test_its_failure_comes_with_its_traceback(url: str) -> None:
    (one,) = world(url, 1, workers=1, stages=[wds.map(fail)])
    with pytest.raises(RuntimeError, match=r"worker failed:\n(.|\n)*ZeroDivisionError: planted at 0"):
        list(one)
    one.close()


def test_a_users_mistake_comes_as_one(tmp_path: Path) -> None:
    copy = make_dataset(tmp_path, pairs=9, shard_pairs=4)
    (one,) = world(copy, 1, workers=1)
    Path(copy, "shard-000001.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000001\.tar not found"):
        list(one)
    one.close()


@pytest.mark.parametrize("epoch", [0, 1])
def test_started_before_the_loop_it_gives_the_same(loader: PairLoader, url: str, epoch: int) -> None:
    loader.start()
    pid = pid_of(loader)
    loader.start()
    (other,) = world(url, 1)
    for one in (loader, other):
        one.set_epoch(epoch)
    assert_equal(steps_of([loader]), steps_of([other]))
    assert pid_of(loader) == pid


def test_started_before_the_loop_it_reads(loader: PairLoader) -> None:
    loader.start()
    assert loader._worker
    wait_until(loader._worker._connection.poll)


def test_started_before_the_loop_it_fails_in_the_loop(url: str) -> None:
    (one,) = world(url, 1, workers=1, stages=[wds.map(fail)])
    one.start()
    with pytest.raises(RuntimeError, match="ZeroDivisionError: planted at 0"):
        list(one)
    one.close()


def test_it_does_without_what_is_slow_to_import(url: str, tmp_path: Path) -> None:
    (one,) = world(url, 1)
    plan = tmp_path / "plan"
    plan.write_bytes(pickled(one.plan))
    script = (
        "import pickle, sys, train.loader.worker\n"
        "plan = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "from train.loader.reader import BatchReader\n"
        "next(BatchReader(plan).batches(0, 0, plan.room.slot))\n"
        "found = {'torch', 'pandas', 'scipy.ndimage', 'webdataset'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    result = python(script, str(plan))
    assert result.returncode == 0, result.stderr
