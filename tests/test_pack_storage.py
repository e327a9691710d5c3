"""Directories and URLs through one set: reads are exact, a name appears whole or not at all."""

import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import python
from hypothesis import given
from hypothesis import strategies as st

from pack.storage import FsspecStore, LocalStore, Retry, Store, open_store
from pack.storage.retry import Attempts, Clock, TransientError, bounded
from pack.storage.trouble import without_secrets
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


def test_creating_needs_no_hard_links(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    test_creating_refuses_other_content_and_takes_equal_content_for_done(local)
    assert files(local.root) == {"a.tar"}


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


class Hours:
    """A clock whose time passes only in pauses and by `pass_s`."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.pauses: list[float] = []

    def pass_s(self, seconds: float) -> None:
        self.time_s += seconds

    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            self.pass_s(seconds)

        return Clock(now=lambda: self.time_s, sleep=sleep, draw=lambda top: top)


def fail(_: float) -> None:
    raise TransientError("server error (500)")


def test_pauses_double_up_to_ten_seconds() -> None:
    hours = Hours()
    attempts = Attempts(Retry(deadline_s=1000, attempts=9), clock=hours.clock())
    with pytest.raises(UserError):
        attempts.run(fail, "can't read x")
    assert hours.pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_giving_up_tells_what_why_how_often_and_how_long() -> None:
    attempts = Attempts(Retry(deadline_s=60, attempts=3), clock=Hours().clock())
    expected = (
        r"^can't read s3://b/x, bytes 0 to 9: server error \(500\); gave up after 3 attempts in 0\.6 s "
        r"\(deadline 60 s, 3 attempts without progress\)$"
    )
    with pytest.raises(UserError, match=expected) as error:
        attempts.run(fail, "can't read s3://b/x, bytes 0 to 9")
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


@given(deadline_s=st.floats(0.1, 100), duration_s=st.floats(0.01, 30), gained=st.integers(0, 1 << 20))
def test_no_attempt_and_no_pause_outlives_the_deadline(
    deadline_s: float, duration_s: float, gained: int
) -> None:
    hours, received = Hours(), [0]
    attempts = Attempts(Retry(deadline_s=deadline_s), clock=hours.clock())

    def slow(limit_s: float) -> None:
        hours.pass_s(min(duration_s, limit_s))
        received[0] += gained
        fail(limit_s)

    with pytest.raises(UserError, match="gave up after"):
        attempts.run(slow, "can't read x", lambda: received[0])
    assert hours.time_s <= deadline_s + 0.0011


def test_attempts_that_bring_bytes_are_not_counted() -> None:
    hours, received = Hours(), [0]

    def piece(limit_s: float) -> str:
        received[0] += 1 << 20
        if received[0] < 50 << 20:
            fail(limit_s)
        return "whole"

    attempts = Attempts(Retry(attempts=2), clock=hours.clock())
    assert attempts.run(piece, "can't read x", lambda: received[0]) == "whole"


def test_an_attempt_has_a_share_of_the_deadline() -> None:
    limits: list[float] = []
    attempts = Attempts(Retry(deadline_s=60), share=4, clock=Hours().clock())
    attempts.run(limits.append, "can't read x")
    assert limits == [15.0]


@pytest.mark.parametrize("wrong", [{"deadline_s": 0}, {"deadline_s": -1.0}, {"attempts": 0}])
def test_limits_that_allow_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected deadline_s > 0 and attempts >= 1"):
        Retry(**wrong)


def test_errors_that_time_does_not_mend_end_the_attempts_at_once() -> None:
    calls: list[float] = []

    def refused(limit_s: float) -> None:
        calls.append(limit_s)
        raise UserError("no permission")

    with pytest.raises(UserError, match="no permission"):
        Attempts(Retry()).run(refused, "can't read x")
    assert len(calls) == 1


def test_call_that_hangs_is_given_up_in_time() -> None:
    release, start = threading.Event(), time.monotonic()
    with pytest.raises(TransientError, match=r"not done within 0\.1 s"):
        bounded(release.wait, 0.1)
    assert time.monotonic() - start < 5
    release.set()


def test_exceptions_of_others_leave_no_trace_in_ours() -> None:
    def leak() -> None:
        raise RuntimeError("Authorization: AWS4 Signature=geheim")

    with pytest.raises(TransientError) as error:
        bounded(leak, 10, lambda _: TransientError("connection broke"))
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


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
    start = time.monotonic()
    with pytest.raises(UserError, match=r"not done within .* \(deadline 0\.4 s"):
        store.read_range("a.tar", 5, 100)
    assert time.monotonic() - start < 10
    release.set()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("http://me:geheim@host:80/a", "http://host:80/a"),
        ("/b?X-Amz-Signature=geheim&partNumber=3", "/b?X-Amz-Signature=...&partNumber=3"),
        ("?sv=2&sig=geheim", "?sv=2&sig=..."),
        ("X-Amz-Security-Token=geheim", "X-Amz-Security-Token=..."),
        ("aws_secret_access_key=geheim", "aws_secret_access_key=..."),
        ("{'Authorization': 'AWS4-HMAC Credential=geheim'}", "{'Authorization': ..."),
        ("s3://bucket/key@2 is whole", "s3://bucket/key@2 is whole"),
    ],
)
def test_secrets_are_cut_out_of_texts(text: str, plain: str) -> None:
    assert without_secrets(text) == plain


@pytest.mark.parametrize(
    "url",
    ["ftp://me:geheim@host/data", "s3://key:geheim@bucket/data", "https://host/data?X-Amz-Signature=geheim"],
)
def test_urls_with_secrets_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(UserError, match="a URL with a user, password or signature") as error:
        open_store(url)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///"])
def test_bucket_url_without_a_bucket_is_an_error(url: str) -> None:
    with pytest.raises(UserError, match=f"expected s3://BUCKET/PREFIX, found {url}$"):
        open_store(url)


def test_no_credentials_is_an_error_that_names_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match="no credentials for s3://bucket/data: set AWS_ACCESS_KEY_ID and"):
        open_store("s3://bucket/data")
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(UserError, match="AWS_PROFILE names a profile that"):
        open_store("s3://bucket/data")


def test_boto3_and_fsspec_are_imported_only_for_urls_that_need_them(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pack.storage import Retry, Store, open_store\n"
        "open_store(sys.argv[1]).names()\n"
        "found = [name for name in ('boto3', 'botocore', 'urllib3', 'fsspec') if name in sys.modules]\n"
        "assert not found, found\n"
        "from pack.storage import S3Store\n"
        "assert 'boto3' in sys.modules\n"
    )
    result = python(script, tmp_path)
    assert result.returncode == 0, result.stderr
