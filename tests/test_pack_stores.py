"""Stores that do less than S3 does: what is pinned, created and read there, and what the user is told."""

import logging
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pack_objects import QUICK, put
from poor_s3 import Manners, manners_of_server  # noqa: F401  # a fixture

from pack import command
from pack.storage import FsspecStore, LocalStore, Store, open_store
from pack.storage.s3 import CREATES_ONCE
from pack.storage.trouble import _TOLD
from recon.base.errors import UserError

URL = "s3://bucket/data"


@pytest.fixture(autouse=True)
def _told_anew(caplog: pytest.LogCaptureFixture) -> None:
    _TOLD.clear()
    CREATES_ONCE.clear()
    caplog.set_level(logging.WARNING)


def memory() -> FsspecStore:
    store = open_store(f"memory://{uuid.uuid4()}")
    assert isinstance(store, FsspecStore)
    return store


def meanwhile(monkeypatch: pytest.MonkeyPatch, where: str, other: Callable[[], None]) -> list[str]:
    """Has another process act in the pause before the second look; tells how often there was one."""
    pauses: list[str] = []

    def settle(_: float) -> None:
        pauses.append(where)
        if len(pauses) == 1:
            other()

    monkeypatch.setattr(where, settle)
    return pauses


# Versions


@pytest.mark.parametrize(("times", "known"), [(True, "size and time of change"), (False, "size")])
def test_without_etag_an_object_is_pinned_by_what_there_is_and_that_is_told_once(
    manners: Manners, caplog: pytest.LogCaptureFixture, times: bool, known: str
) -> None:
    manners.etags, manners.times = False, times
    store, other = open_store(URL, QUICK), open_store(URL, QUICK)
    put(store, "a", b"old!")
    for start in range(3):
        assert store.read_range("a", start, 1) == b"old!"[start : start + 1]
    [told] = caplog.messages
    assert f"gives no ETag: versions are told apart by {known} alone" in told
    put(other, "a", b"new!")
    if times:
        with pytest.raises(UserError, match="a was replaced while this run reads it"):
            store.read_range("a", 0, 4)
    else:
        assert store.read_range("a", 0, 4) == b"new!"
    put(other, "a", b"longer")
    with pytest.raises(UserError, match="a was replaced while this run reads it"):
        store.read_range("a", 0, 4)


@pytest.mark.usefixtures("manners")
def test_with_etag_the_time_of_change_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(URL, QUICK)
    for _ in range(2):  # the same content again: a copy that was restored
        put(open_store(URL, QUICK), "a", b"same")
        assert store.read_range("a", 0, 4) == b"same"
    assert caplog.messages == []


def test_behind_fsspec_too_a_replaced_object_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    store = memory()
    other = open_store(store.url)
    put(store, "a", b"old!")
    assert store.read_range("a", 0, 4) == b"old!"
    put(store, "a", b"mine")
    assert store.read_range("a", 0, 4) == b"mine"
    put(other, "a", b"new!")
    with pytest.raises(UserError, match="a was replaced while this run reads it"):
        store.read_range("a", 0, 4)
    [told] = caplog.messages
    assert told.startswith("memory:// tells no version of its objects: versions are told apart by size and")


# Creating


def test_a_store_that_creates_once_is_believed(
    manners: Manners, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = meanwhile(monkeypatch, "pack.storage.s3.settle", lambda: None)
    store = open_store(URL, QUICK)
    for name in ("a", "b"):
        put(store, name, b"mine", create=True)
    with pytest.raises(UserError, match="a exists already with other content"):
        put(store, "a", b"other", create=True)
    assert (caplog.messages, pauses) == ([], [])
    assert sorted(manners.objects) == ["/bucket/data/a", "/bucket/data/b"]  # no trace of the trial
    assert len([one for one in manners.requests if one.startswith("PUT /bucket/data/.try")]) == 4 * 8


@pytest.mark.parametrize(
    ("creates", "told"),
    [("always", "ignores If-None-Match (8 of 8"), ("by two", "does not keep to If-None-Match (2 of 8")],
)
def test_where_two_can_create_one_object_the_first_is_told_and_the_second_has_it(
    manners: Manners,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    creates: Any,
    told: str,
) -> None:
    manners.creates = creates
    first, second = open_store(URL, QUICK), open_store(URL, QUICK)
    pauses = meanwhile(monkeypatch, "pack.storage.s3.settle", lambda: put(second, "a", b"second"))
    with pytest.raises(UserError, match="a exists already with other content"):
        put(first, "a", b"first", create=True)
    assert len(pauses) == 1
    assert first.read("a") == b"second"
    [said] = caplog.messages
    assert said.startswith(f"{URL} {told} writers at once created one object)")
    assert "start one run at a time there" in said
    put(first, "b", b"alone", create=True)
    put(first, "b", b"alone", create=True)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("store", ["s3", "memory"])
def test_what_another_process_has_removed_since_was_created(
    manners: Manners, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    manners.creates = "always"
    opened: Store = open_store(URL, QUICK) if store == "s3" else memory()
    where = "pack.storage.s3.settle" if store == "s3" else "pack.storage.other.settle"
    pauses = meanwhile(monkeypatch, where, lambda: opened.remove("a"))
    put(opened, "a", b"claim", create=True)
    assert pauses == [where]
    assert not opened.exists("a")


def test_behind_fsspec_too_the_first_of_two_creators_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory()
    meanwhile(monkeypatch, "pack.storage.other.settle", lambda: put(open_store(store.url), "a", b"second"))
    with pytest.raises(UserError, match="a exists already with other content"):
        put(store, "a", b"first", create=True)
    [told] = caplog.messages
    assert told.startswith(
        "memory:// has no create-only writing through fsspec: what may be created only once"
    )


# Empty objects


@pytest.mark.parametrize("status", [206, 416])
def test_an_empty_object_is_read_whatever_its_range_answers(manners: Manners, status: int) -> None:
    manners.empty = status
    store = open_store(URL, QUICK)
    put(store, "a", b"")
    put(store, "b", b"b")
    for _ in range(3):
        assert store.read("a") == store.head("a", 9) == b""
        assert store.read("b") == b"b"  # no byte of the other answer is taken for its own
    with pytest.raises(UserError, match="a ends early: expected 1 bytes at 0, found 0"):
        store.read_range("a", 0, 1)


def test_a_range_without_bytes_is_no_request(manners: Manners) -> None:
    assert open_store(URL, QUICK).read_range("none", 5, 0) == b""
    assert manners.requests == []
    assert memory().read_range("none", 5, 0) == b""


# Schemes


def test_local_and_file_urls_are_directories(tmp_path: Path) -> None:
    for scheme in ("local", "file"):
        store = open_store(f"{scheme}://{tmp_path}/data")
        assert isinstance(store, LocalStore)
        put(store, scheme, b"x")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["file", "local"]


def test_a_command_refuses_what_would_be_gone_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--source", str(tmp_path), "--out", "memory://mine", "--autoencoder", "identity"]
    monkeypatch.setattr(sys, "argv", ["pack", *words])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: memory://mine lasts only as long as this process; give a directory, s3://BUCKET/PREFIX or "
        "the URL of another storage\n"
    )
    assert not fsspec.filesystem("memory").exists("mine")
