"""Two runs never write one bucket: who gets in, when, and what the other one is told."""

import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from s3_server import S3Env
from train_data import make_dataset
from train_runs import small_config, stop_at

from pack.storage import Store, open_store
from recon.base.errors import UserError
from train.loop import run
from train.loop.trainee import Trainee
from train.output import lease as module
from train.output.lease import AGE_S, LEASE, RENEW_S, Lease, Owner, open_lease, this_process
from train.output.run_folder import RunFolder
from train.world.launch import Launch
from train.world.stop import Preempted


class Clock:
    """Stands still until it is set."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty prefix of a store without conditions, and of one with them."""
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}")
    env: S3Env = request.getfixturevalue("s3_env")
    return open_store(env.url)


def owner(name: str, **more: Any) -> Owner:
    there = Owner(token=name, job=None, host=f"host-{name}", pid=7, machine=f"machine of {name}")
    return replace(there, **more)


def test_one_run_gets_in_and_the_other_is_told_who_is_there(store: Store, clock: Clock) -> None:
    first, second = Lease(store, owner("a"), clock), Lease(store, owner("b"), clock)
    first.take()
    clock.now += AGE_S - 1
    with pytest.raises(UserError, match=r"process 7 on host-a\) still trains .* 119 s ago; wait"):
        second.take()
    first.renew()
    clock.now += AGE_S - 1
    with pytest.raises(UserError, match="still trains"):
        second.take()
    first.release()
    assert store.names() == []
    second.take()


def test_an_old_lease_is_taken_over_and_its_owner_writes_no_more(store: Store, clock: Clock) -> None:
    first, second = Lease(store, owner("a"), clock), Lease(store, owner("b"), clock)
    first.take()
    clock.now += AGE_S + 1
    second.take()
    with pytest.raises(UserError, match=r"process 7 on host-b\) has taken .* over"):
        first.renew()
    first.release()  # is no more its own
    second.renew()
    with pytest.raises(UserError, match="still trains"):
        first.take()


def test_a_lease_from_a_clock_that_is_ahead_does_not_stay_for_ever(store: Store, clock: Clock) -> None:
    Lease(store, owner("a"), clock).take()
    clock.now -= 10 * AGE_S
    Lease(store, owner("b"), clock).take()


def test_a_lease_that_someone_deleted_comes_again(store: Store, clock: Clock) -> None:
    first = Lease(store, owner("a"), clock)
    first.take()
    store.remove(LEASE)
    first.renew()
    with pytest.raises(UserError, match="still trains"):
        Lease(store, owner("b"), clock).take()


@pytest.mark.parametrize(("job", "enters"), [("job", True), ("other", False), (None, False)])
def test_a_restart_of_the_same_job_gets_in_at_once(
    store: Store, clock: Clock, job: str | None, enters: bool
) -> None:
    Lease(store, owner("a", job="job"), clock).take()
    again = Lease(store, owner("b", job=job), clock)
    if enters:
        again.take()
    else:
        with pytest.raises(UserError, match="still trains"):
            again.take()


def test_the_lease_of_a_process_that_is_dead_on_this_machine_is_free(clock: Clock) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    store, ours = open_store(f"memory://{uuid.uuid4().hex}"), this_process(None)
    if ours.machine is None:
        pytest.skip("this system names no machine")
    Lease(store, replace(ours, token="dead", pid=process.pid), clock).take()
    Lease(store, replace(ours, token="parent", pid=os.getppid()), clock).take()
    with pytest.raises(UserError, match="still trains"):
        Lease(store, ours, clock).take()


def test_a_dead_process_s_number_means_nothing_on_another_machine(clock: Clock) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    store = open_store(f"memory://{uuid.uuid4().hex}")
    Lease(store, owner("a", pid=process.pid, machine=None), clock).take()
    with pytest.raises(UserError, match="still trains"):
        Lease(store, owner("b", machine=None), clock).take()


class Disturbed:
    """A store that lets something happen before, or right after, its first publishing."""

    def __init__(self, store: Store, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._store, self._before, self._after = store, before, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def publish(self, name: str, *, create: bool = False) -> Iterator[BinaryIO]:
        before, self._before = self._before, lambda: None
        before()
        with self._store.publish(name, create=create) as file:
            yield file
        after, self._after = self._after, lambda: None
        after()


def test_of_two_that_find_no_lease_the_second_to_create_is_refused(store: Store, clock: Clock) -> None:
    quicker = Lease(store, owner("a"), clock)
    slower = Lease(Disturbed(store, quicker.take, lambda: None), owner("b"), clock)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="still trains"):
        slower.take()
    quicker.renew()


def test_who_is_overwritten_where_nothing_can_be_created_only_sees_it_when_looking_again(
    clock: Clock,
) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    other = Lease(store, owner("b"), clock)
    first = Lease(Disturbed(store, lambda: None, other._write), owner("a"), clock)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"host-b\) still trains"):
        first.take()


def test_of_two_that_take_over_an_old_lease_the_last_to_write_has_it(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lease(store, owner("dead"), clock).take()
    clock.now += AGE_S + 1
    other = Lease(store, owner("b"), clock)
    monkeypatch.setattr(module, "settle", lambda _: other._write())
    with pytest.raises(UserError, match=r"host-b\) still trains"):
        Lease(store, owner("a"), clock).take()
    other.renew()


def test_a_lease_of_another_version_is_named(store: Store, clock: Clock) -> None:
    with store.publish(LEASE) as file:
        file.write(b'{"owner": {"name": "x"}}')
    with pytest.raises(UserError, match=r"lease\.json is not of this version"):
        Lease(store, owner("a"), clock).take()


def test_a_thread_renews_the_lease_until_the_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[float] = []
    store = open_store(f"memory://{uuid.uuid4().hex}")
    lease = Lease(store, owner("a"), clock)
    lease.take()

    class Turns:
        """An event that is set at the fourth look."""

        def wait(self, seconds: float) -> bool:
            renewed.append(seconds)
            clock.now += seconds
            return len(renewed) > 3

    lease._keep(Turns())  # type: ignore[arg-type]
    assert renewed == [RENEW_S] * 4
    assert 3 * RENEW_S < AGE_S  # two renewals may fail
    with pytest.raises(UserError, match=f"still trains in .* {RENEW_S:.0f} s ago"):
        Lease(store, owner("b"), clock).take()
    threads: list[str] = []

    def keep(_: Lease, ended: threading.Event) -> None:
        ended.wait()
        threads.append(threading.current_thread().name)

    monkeypatch.setattr(Lease, "_keep", keep)
    with lease.kept():
        assert store.names() == [LEASE]
    assert len(threads) == 1
    assert threading.current_thread().name not in threads
    assert store.names() == []


def test_a_directory_has_no_lease(tmp_path: Path) -> None:
    assert open_lease(str(tmp_path), None) is None


def test_logs_are_not_published_over_those_of_the_run_that_took_over(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    out = f"memory://{uuid.uuid4().hex}"
    first, second = (Lease(open_store(out), owner(name), clock) for name in "ab")
    first.take()
    folder = RunFolder(out, None, first)
    folder.append("metrics.jsonl", {"step": 1})
    clock.now += AGE_S + 1
    second.take()
    with pytest.raises(UserError, match="over"):
        folder.sync()
    caplog.set_level(logging.WARNING)
    folder.close()
    assert not open_store(out).exists("metrics.jsonl")
    assert "the newest lines of the log are lost: another run" in caplog.text


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    return {"train": make_dataset(folder / "train", pairs=16, shard_pairs=8, size=(24, 24))}


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_run_in_a_bucket_where_another_trains_is_refused_and_writes_nothing(
    data: dict[str, str], resume: str
) -> None:
    out = f"memory://{uuid.uuid4().hex}"
    Lease(open_store(out), owner("a")).take()
    with pytest.raises(UserError, match="still trains"):
        run.train(small_config(data, out, resume=resume))
    assert open_store(out).names() == [LEASE]


def test_a_run_that_was_asked_to_end_goes_on_at_once_and_leaves_no_lease(
    data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"memory://{uuid.uuid4().hex}"
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(small_config(data, out), launch=Launch(job="a"), stop=stop_at(2, patched))
    assert LEASE not in open_store(out).names()
    monkeypatch.setattr(module, "this_process", lambda job: owner("elsewhere", job=job))
    run.train(small_config(data, out), launch=Launch(job="b"))
    assert LEASE not in open_store(out).names()


def test_a_run_whose_bucket_was_taken_over_publishes_no_checkpoint(
    data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, step = f"memory://{uuid.uuid4().hex}", Trainee.step

    def lose(self: Trainee, *arguments: Any, **more: Any) -> Any:
        Lease(open_store(out), owner("b"))._write()
        return step(self, *arguments, **more)

    monkeypatch.setattr(Trainee, "step", lose)
    with pytest.raises(UserError, match=r"another run \(process 7 on host-b\) has taken"):
        run.train(small_config(data, out))
    names = open_store(out).names()
    assert LEASE in names
    assert not [name for name in names if name.endswith(".pt")]
