"""Directories and URLs through one set: reads are exact, a name appears whole or not at all."""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pack.storage import FsspecStore, LocalStore, Store, open_store
from recon.errors import UserError

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


def put(store: Store, name: str, data: bytes = DATA) -> None:
    with store.publish(name) as file:
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


def test_the_scheme_chooses_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store(str(tmp_path)), LocalStore)
    assert isinstance(open_store(f"file://{tmp_path}"), LocalStore)
    assert isinstance(open_store("memory://x"), FsspecStore)


def test_unknown_scheme_is_an_error_that_names_the_url() -> None:
    with pytest.raises(UserError, match="can't open nosuch://bucket/data"):
        open_store("nosuch://bucket/data")


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
        assert store.read("a.tar", start, length) == DATA[start : start + length]
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
        store.read("a.tar", start, length)


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
    assert files(local.root) == {"whole.tar"}


def test_disk_too_full_for_the_directory_is_the_same_line(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", disk_full)
    with pytest.raises(UserError, match=r"disk full while writing .*a\.tar; free some"):
        put(local, "a.tar")


def test_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match=r"can't write .*data/a\.tar: File exists"):
        put(LocalStore(str(tmp_path / "data")), "a.tar")


def test_directory_in_place_of_an_object_is_one_line(local: LocalStore) -> None:
    (local.root / "a.tar").mkdir(parents=True)
    with pytest.raises(UserError, match="is a directory, expected a file"):
        local.read("a.tar")
