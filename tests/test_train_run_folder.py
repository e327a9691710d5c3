"""What of a run's logs goes to a bucket, and when; what a checkpoint finds there again."""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pack.storage import FsspecStore, open_store
from recon.base.errors import UnreachableError, UserError
from train.output.lease import BRIEFLY, LEASE, Lease, open_lease
from train.output.run_folder import BOARD, BOARD_S, METRICS, QUARANTINE, TIMING, RunFolder


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that are published, in turn."""
    names: list[str] = []
    publish = FsspecStore.publish

    @contextmanager
    def counted(self: FsspecStore, name: str, **more: Any) -> Iterator[BinaryIO]:
        with publish(self, name, **more) as file:
            yield file
        names.append(name)

    monkeypatch.setattr(FsspecStore, "publish", counted)
    return names


def new(sent: list[str], clock: Clock) -> tuple[str, RunFolder]:
    out = f"memory://{uuid.uuid4().hex}"
    folder = RunFolder(out, None, clock=clock)
    folder.board.mkdir()
    (folder.board / "events").write_bytes(b"1")
    sent.clear()
    return out, folder


def test_only_what_has_grown_is_sent_again(sent: list[str]) -> None:
    clock = Clock()
    out, folder = new(sent, clock)
    for step in range(3):
        folder.append(METRICS, {"step": step})
        folder.sync()
    assert [name for name in sent if name != "events"] == [METRICS] * 3
    folder.append(QUARANTINE, {"key": "a"})
    sent.clear()
    folder.sync()
    folder.sync()
    assert sent == [QUARANTINE]
    stored = {name: len(open_store(out).read(name)) for name in (METRICS, QUARANTINE)}
    assert folder.lengths() == {**stored, TIMING: 0}
    folder.close()


def test_an_empty_file_is_no_object(sent: list[str]) -> None:
    out, folder = new(sent, Clock())
    folder.append(QUARANTINE, {"key": "a"})
    folder.sync()
    assert open_store(out).names() == [QUARANTINE]
    folder.close()
    again = RunFolder(out, {METRICS: 0, TIMING: 0, QUARANTINE: 0}, clock=Clock())
    assert open_store(out).names() == []
    again.close()


def test_tensorboard_s_files_are_sent_now_and_then_and_at_the_end(sent: list[str]) -> None:
    clock = Clock()
    out, folder = new(sent, clock)
    events = folder.board / "events"
    for hour in range(10):
        for minute in range(60):
            clock.now = 3600 * hour + 60 * minute
            events.write_bytes(events.read_bytes() + b"1")
            folder.sync()
    assert sent.count("events") == 10 * 3600 / BOARD_S
    clock.now += 1
    events.write_bytes(events.read_bytes() + b"end")
    whole = events.read_bytes()
    folder.close()
    assert open_store(f"{out}/{BOARD}").read("events") == whole


def test_a_run_that_goes_on_finds_what_its_checkpoint_knew_and_drops_the_rest(sent: list[str]) -> None:
    out, folder = new(sent, Clock())
    folder.append(METRICS, {"step": 1})
    folder.append(TIMING, {"step": 1})
    folder.sync()
    lengths = folder.lengths()
    folder.append(METRICS, {"step": 2})
    folder.append(TIMING, {"step": 2})
    folder.close()
    again = RunFolder(out, lengths, clock=Clock())
    assert again.lines(METRICS) == [{"step": 1}]
    assert again.lines(TIMING) == [{"step": 1}, {"step": 2}]
    again.append(METRICS, {"step": 3})
    again.sync()
    assert len(open_store(out).read(METRICS).splitlines()) == 2
    again.close()


def test_a_run_goes_on_where_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("pack.storage.trouble._TOLD", set())
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with closing(RunFolder(str(tmp_path), None)) as folder:
        folder.append(METRICS, {"step": 1})
        assert folder.lines(METRICS) == [{"step": 1}]
    assert [f"{tmp_path} has no locks" in message for message in caplog.messages] == [True]


def test_a_log_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / METRICS)
    with pytest.raises(UserError, match=r"metrics\.jsonl: it is a pipe, a socket or a device; name a file"):
        RunFolder(str(tmp_path), None)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"gone is a link that leads nowhere, expected a folder"):
        RunFolder(str(tmp_path / "gone"), None)


@pytest.mark.parametrize("error", [UnreachableError("the bucket is away"), UserError("a mistake")])
def test_a_run_whose_storage_was_out_of_reach_asks_it_only_briefly_for_its_last_words(
    error: UserError, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    read, publish = FsspecStore.read, FsspecStore.publish

    def reads(self: FsspecStore, name: str, *rest: Any, **more: Any) -> bytes:
        asked.append(self.retry.deadline_s)
        return read(self, name, *rest, **more)

    def publishes(self: FsspecStore, name: str, **more: Any) -> Any:
        asked.append(self.retry.deadline_s)
        return publish(self, name, **more)

    out = f"memory://{uuid.uuid4().hex}"
    lease = open_lease(out, None)
    assert isinstance(lease, Lease)
    lease.take()

    def fails() -> None:
        with lease.kept(), closing(RunFolder(out, None, lease)) as folder:
            folder.append(METRICS, {"step": 1})
            monkeypatch.setattr(FsspecStore, "read", reads)
            monkeypatch.setattr(FsspecStore, "publish", publishes)
            raise error

    with pytest.raises(type(error)):
        fails()
    assert open_store(out).names() == [METRICS]  # it was there again: nothing is lost, and the lease is free
    assert len(asked) > 3
    assert (set(asked) == {BRIEFLY.deadline_s}) == isinstance(error, UnreachableError)
    assert LEASE not in open_store(out).names()
