"""Directories and URLs through one set: reads are exact, a name appears whole or not at all."""

import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pack.storage import FsspecStore, LocalStore, Retry, Store, open_store
from recon.base.errors import UserError

DATA = bytes(range(256)) * 4


@pytest.fixture(params=["local", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store; its directory does not exist yet."""
    if request.param != "memory":
        yield open_store(f"{'file://' if request.param == 'file' else ''}{tmp_path / 'data'}")
        return
    root = f"memory://{uuid.uuid4()}"
    yield open_store(root)
    memory = fsspec.filesystem("memory")
    if memory.exists(root):
        memory.rm(root, recursive=True)


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "data"))


def put(store: Store, name: str, data: bytes = DATA, create: bool = False) -> None:
    with store.publish(name, create=create) as file:
        file.write(data)


def put_and_raise(store: Store, name: str, failure: type[BaseException]) -> None:
    with store.publish(name) as file:
        file.write(DATA)
        raise failure


def files(root: Path) -> set[str]:
    """The names of all files below `root`, hidden ones too."""
    return {path.name for path in root.rglob("*") if path.is_file()}


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_published_is_there_whole(store: Store) -> None:
    assert not store.exists("a.tar")
    put(store, "a.tar")
    assert store.exists("a.tar")
    assert store.size("a.tar") == len(DATA)
    assert store.read("a.tar") == DATA


def test_ranged_reads_are_exact(store: Store) -> None:
    put(store, "a.tar")

    @given(start=st.integers(0, len(DATA)), length=st.integers(0, len(DATA)))
    def check(start: int, length: int) -> None:
        length = min(length, len(DATA) - start)
        assert store.read_range("a.tar", start, length) == DATA[start : start + length]
        assert store.read("a.tar", start) == DATA[start:]

    check()


@pytest.mark.parametrize(
    ("start", "length", "found"), [(1000, 25, 24), (0, 1025, 1024), (1024, 1, 0), (2000, 5, 0)]
)
def test_short_read_is_an_error_that_tells_expected_found_and_where(
    store: Store, start: int, length: int, found: int
) -> None:
    put(store, "a.tar")
    with pytest.raises(
        UserError, match=rf"a\.tar ends early: expected {length} bytes at {start}, found {found};"
    ):
        store.read_range("a.tar", start, length)


def test_missing_object_is_an_error_that_names_it(store: Store) -> None:
    for call in (store.size, store.read):
        with pytest.raises(UserError, match=r"none\.tar not found"):
            call("none.tar")
    assert not store.exists("none.tar")


def test_names_are_sorted_and_those_of_files_directly_below(store: Store) -> None:
    assert store.names() == []
    for name in ("b.tar", "a.tar", "c.json"):
        put(store, name)
    put(open_store(f"{store.url}/deeper"), "d.tar")
    assert store.names() == ["a.tar", "b.tar", "c.json"]


def test_removed_object_is_gone(store: Store) -> None:
    put(store, "a.tar")
    store.remove("a.tar")
    assert not store.exists("a.tar")
    assert store.names() == []


def test_publishing_again_replaces_the_object(store: Store) -> None:
    put(store, "a.tar")
    put(store, "a.tar", b"new")
    assert store.read("a.tar") == b"new"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_interrupted_publishing_leaves_what_was_there_and_no_partial(
    store: Store, failure: type[BaseException], before: bytes | None
) -> None:
    put(store, "other.tar")
    if before:
        put(store, "a.tar", before)
    with pytest.raises(failure):
        put_and_raise(store, "a.tar", failure)
    assert store.names() == (["a.tar", "other.tar"] if before else ["other.tar"])
    if before:
        assert store.read("a.tar") == before


def test_object_is_invisible_until_it_is_whole(store: Store) -> None:
    with store.publish("a.tar") as file:
        file.write(DATA)
        file.flush()
        assert not store.exists("a.tar")
    assert store.exists("a.tar")


def test_second_writer_of_an_object_is_refused_and_the_first_goes_on(local: LocalStore) -> None:
    with local.publish("a.tar") as file:
        file.write(b"first")
        with pytest.raises(UserError, match=r"another process is writing .*a\.tar"):
            put(LocalStore(local.url), "a.tar", b"second")
        put(local, "b.tar")
    assert local.read("a.tar") == b"first"
    assert files(local.root) == {"a.tar", "b.tar"}


def test_writer_that_comes_between_opening_and_locking_loses_nothing(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, raced = fcntl.flock, []

    def late(*arguments: Any) -> None:
        if not raced:
            raced.append(True)
            put(local, "a.tar", b"first")  # opens, locks, writes and renames before we have the lock
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UserError, match=r"another process is writing .*a\.tar"):
        put(local, "a.tar", b"second")
    assert local.read("a.tar") == b"first"
    assert files(local.root) == {"a.tar"}


def test_partial_that_a_kill_left_behind_is_written_anew(local: LocalStore) -> None:
    local.root.mkdir()
    (local.root / ".a.tar.partial").write_bytes(b"x" * 5000)
    put(local, "a.tar")
    assert local.read("a.tar") == DATA
    assert files(local.root) == {"a.tar"}


def test_full_disk_is_one_line_and_leaves_nothing_half_written(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(local, "whole.tar")
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(UserError, match=r"disk full while writing .*a\.tar \(\d+ MiB free\); free some"):
        put(local, "a.tar")
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 99, 50, 50, 9, 0, 0, 0, 255)))
    with pytest.raises(UserError, match=r"while writing .*a\.tar \(no inodes are left: .*; remove some"):
        put(local, "a.tar")
    assert files(local.root) == {"whole.tar"}


def test_disk_too_full_for_the_directory_is_the_same_line(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", disk_full)
    with pytest.raises(UserError, match=r"disk full while writing .*a\.tar; free some"):
        put(local, "a.tar")


def test_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match=r"can't write into .*data: .*data is a file, expected a folder"):
        put(LocalStore(str(tmp_path / "data")), "a.tar")


def test_directory_in_place_of_an_object_is_one_line(local: LocalStore) -> None:
    (local.root / "a.tar").mkdir(parents=True)
    with pytest.raises(UserError, match="is a directory, expected a file"):
        local.read("a.tar")


def test_removing_what_is_not_there_is_no_error(store: Store) -> None:
    put(store, "a.tar")
    store.remove("none.tar")
    assert store.names() == ["a.tar"]


def test_creating_refuses_other_content_and_takes_equal_content_for_done(store: Store) -> None:
    put(store, "a.tar", create=True)
    put(store, "a.tar", create=True)
    with pytest.raises(UserError, match=r"a\.tar exists already with other content"):
        put(store, "a.tar", b"other", create=True)
    assert store.read("a.tar") == DATA
    assert store.names() == ["a.tar"]


def test_creating_after_a_kill_amid_another_never_opens_the_published_file(local: LocalStore) -> None:
    put(local, "a.tar", create=True)
    os.link(local.root / "a.tar", local.root / ".a.tar.partial")  # as a kill in between leaves it
    before = (local.root / "a.tar").stat()
    with local.publish("a.tar", create=True) as file:
        file.write(DATA[:100])
        file.flush()
        assert local.read("a.tar") == DATA
        file.write(DATA[100:])
    after = (local.root / "a.tar").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [path.name for path in local.root.iterdir()] == ["a.tar"]


def test_creating_needs_no_hard_links(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    test_creating_refuses_other_content_and_takes_equal_content_for_done(local)
    assert files(local.root) == {"a.tar"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The warnings of the test, which are given once a process."""
    monkeypatch.setattr("pack.storage.trouble._TOLD", set())
    return caplog


@pytest.mark.parametrize("cause", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_with_one_warning(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture, cause: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(cause, os.strerror(cause))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    test_creating_refuses_other_content_and_takes_equal_content_for_done(local)
    put(local, "b.tar")
    assert files(local.root) == {"a.tar", "b.tar"}
    assert len(told.messages) == 1
    assert f"{local.root} has no locks ({os.strerror(cause)})" in told.messages[0]


@pytest.mark.parametrize("cause", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES])
def test_a_file_system_that_syncs_no_directory_is_written_with_one_warning(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture, cause: int
) -> None:
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(cause, os.strerror(cause))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    for name in ("a.tar", "b.tar"):
        put(local, name)
    assert (local.read("a.tar"), local.read("b.tar")) == (DATA, DATA)
    assert len(told.messages) == 1
    assert "pack.verify" in told.messages[0]


@pytest.mark.parametrize("call", ["flock", "fsync"])
def test_a_failing_disk_is_not_taken_for_a_file_system_without_locks(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl if call == "flock" else os, call, fail)
    with pytest.raises(UserError, match=r"can't write .*a\.tar: Input/output error"):
        put(local, "a.tar")
    assert told.messages == []


@pytest.mark.parametrize("in_place", [True, False])
def test_file_replaced_between_two_ranged_reads_is_an_error(local: LocalStore, in_place: bool) -> None:
    put(local, "a.tar")
    assert local.read_range("a.tar", 0, 10) == DATA[:10]
    time.sleep(0.02)  # a clock tick of the file system
    if in_place:
        (local.root / "a.tar").write_bytes(DATA[::-1])
    else:
        put(LocalStore(local.url), "a.tar")
    for _ in range(2):
        with pytest.raises(UserError, match=r"a\.tar was replaced while this run reads it"):
            local.read_range("a.tar", 0, 10)
    assert local.read("a.tar") != b""  # the whole object is read as it is now
    assert LocalStore(local.url).read_range("a.tar", 0, 10) == local.read("a.tar")[:10]


def test_own_publishing_and_removing_end_the_pin(local: LocalStore) -> None:
    for data in (DATA, DATA[::-1], DATA + DATA):
        put(local, "a.tar", data)
        assert local.read_range("a.tar", 0, 100) == data[:100]
    local.remove("a.tar")
    put(LocalStore(local.url), "a.tar")
    assert local.read_range("a.tar", 0, 100) == DATA[:100]


def test_failing_disk_is_one_line(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    put(local, "a.tar")
    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(UserError, match=r"can't read .*a\.tar: Input/output error"):
        local.read_range("a.tar", 0, 10)


class FlakyFiles:
    """fsspec's memory files, whose `cat_file` first goes wrong in some ways."""

    def __init__(self, store: FsspecStore, faults: list[Any]) -> None:
        self.fs, self.faults, self.calls = store.fs, faults, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fs, name)

    def cat_file(self, path: str, start: int | None, end: int | None) -> bytes:
        self.calls += 1
        data: bytes = self.fs.cat_file(path, start=start, end=end)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        return fault(data) if fault else data


def flaky(faults: list[Any], retry: Retry) -> tuple[FsspecStore, FlakyFiles]:
    store = FsspecStore(f"memory://{uuid.uuid4()}", retry)
    put(store, "a.tar")
    files = FlakyFiles(store, faults)
    store.fs = files
    return store, files


def test_passing_trouble_of_other_storage_is_ridden_out() -> None:
    faults = [ConnectionError("reset"), lambda data: data[:3], RuntimeError("odd"), lambda _: b""]
    store, files = flaky(faults, Retry(deadline_s=20, attempts=5))
    assert store.read_range("a.tar", 5, 100) == DATA[5:105]
    assert files.calls == 5


def test_lasting_trouble_of_other_storage_names_url_range_attempts_and_cause() -> None:
    error = OSError("https://user:geheim@host/x?X-Amz-Signature=geheim is away")
    store, _ = flaky([error] * 9, Retry(deadline_s=20, attempts=2))
    with pytest.raises(
        UserError, match=r"can't read memory://.*a\.tar, bytes 5 to 104: .* after 2 attempts"
    ) as told:
        store.read_range("a.tar", 5, 100)
    assert "geheim" not in str(told.value)


def test_other_storage_that_hangs_is_given_up_at_the_deadline() -> None:
    release = threading.Event()
    store, _ = flaky([lambda _: release.wait()] * 9, Retry(deadline_s=0.4))
    with pytest.raises(UserError, match=r"not done within .* \(deadline 0\.4 s"):
        store.read_range("a.tar", 5, 100)
    release.set()


def test_short_head_of_other_storage_is_asked_for_again() -> None:
    store, files = flaky([lambda data: data[:3], lambda _: b""], Retry(deadline_s=20, attempts=5))
    assert store.head("a.tar", 100) == DATA[:100]
    assert files.calls == 3
