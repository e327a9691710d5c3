"""Storage behind fsspec under faults: reads are whole, names appear whole, and nothing waits for ever."""

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from conftest import python
from fsspec.implementations.memory import MemoryFileSystem

from pack.storage import FsspecStore, Retry
from recon.base.errors import UserError

DATA = bytes(range(256)) * 40
RETRY = Retry(deadline_s=20, attempts=4)
SHORT = Retry(deadline_s=0.3, attempts=3)  # for what hangs


class Faulty(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Files in memory, whose operations first go wrong as planned; it renames, as sftp and local disks do."""

    protocol: ClassVar[str] = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    plans: ClassVar[dict[str, list[Any]]] = {}
    calls: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        plain = str(path).removeprefix(f"{cls.protocol}://")
        return f"/{plain.strip('/')}"

    def _fault(self, operation: str) -> Any:
        self.calls.append(operation)
        plan = self.plans.get(operation)
        fault = plan.pop(0) if plan else None
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, threading.Event):
            fault.wait()
        return fault

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        fault = self._fault("cat_file")
        data: bytes = super().cat_file(path, start=start, end=end)
        return data[:fault] if isinstance(fault, int) else data

    def info(self, path: str, **_: Any) -> Any:
        self._fault("info")
        return super().info(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        self._fault("ls")
        return super().ls(path, detail=detail)

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        fault = self._fault("put_file")
        data = Path(lpath).read_bytes()
        self.pipe_file(rpath, data[:fault] if isinstance(fault, int) else data)
        self._fault("put_file_end")

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        self._fault("mv")
        self.cp_file(path1, path2)
        super().rm_file(self._strip_protocol(path1))

    def rm_file(self, path: str) -> None:
        self._fault("rm_file")
        super().rm_file(self._strip_protocol(path))


class Objects(Faulty):
    """The same without renaming, as buckets are: what was uploaded is there whole."""

    protocol: ClassVar[str] = "objects"
    mv = MemoryFileSystem.mv


@pytest.fixture(params=[Faulty, Objects], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Faulty]]:
    monkeypatch.setattr("pack.storage.retry._FIRST_PAUSE_S", 0.001)
    kind: type[Faulty] = request.param
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    Faulty.plans.clear()
    Faulty.calls.clear()
    yield kind
    Faulty.store.clear()
    Faulty.plans.clear()


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Whoever meets it in a plan waits for the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def make(kind: type[Faulty]) -> Callable[..., FsspecStore]:
    url = f"{kind.protocol}://{uuid.uuid4().hex[:8]}/data"

    def opened(retry: Retry = RETRY) -> FsspecStore:
        store = FsspecStore(url, RETRY)
        store.retry = retry  # not before: a busy machine takes a while to open it
        return store

    return opened


@pytest.fixture
def store(make: Callable[..., FsspecStore]) -> FsspecStore:
    return make()


def put(store: FsspecStore, name: str = "a.tar", data: bytes = DATA, create: bool = False) -> None:
    with store.publish(name, create=create) as file:
        file.write(data)


def test_publishing_rides_out_what_passes(store: FsspecStore) -> None:
    Faulty.plans["put_file"] = [ConnectionError("reset"), 100, OSError("odd")]  # 100 bytes: a short write
    put(store)
    assert store.read("a.tar") == DATA
    assert store.names() == ["a.tar"]
    assert Faulty.calls.count("put_file") == 4


def test_publishing_that_fails_for_good_leaves_what_was_there(store: FsspecStore, kind: type[Faulty]) -> None:
    put(store, data=b"old")
    Faulty.plans["put_file"] = [ConnectionError("reset")] * 9
    with pytest.raises(
        UserError, match=r"can't write \w+://.*/a\.tar: ConnectionError: reset; gave up after 4 attempts"
    ):
        put(store)
    assert store.read("a.tar") == b"old"
    assert store.names() == ["a.tar"]
    assert kind.calls.count("put_file") == 5


def test_publishing_that_hangs_ends_at_its_deadline(
    make: Callable[..., FsspecStore], hang: threading.Event
) -> None:
    put(make(), data=b"old")
    Faulty.plans["put_file"] = [hang] * 9
    with pytest.raises(UserError, match=r"can't write .*/a\.tar: not done within .* \(deadline 0\.3 s"):
        put(make(SHORT))
    assert make().read("a.tar") == b"old"
    assert make().names() == ["a.tar"]


@pytest.mark.parametrize("kind", [Faulty], indirect=True)
def test_name_shows_the_old_object_until_the_new_one_is_whole(
    make: Callable[..., FsspecStore], hang: threading.Event
) -> None:
    put(make(), data=b"old")
    Faulty.plans["put_file_end"] = [hang] * 9  # all is written, but nobody says so
    with pytest.raises(UserError, match="not done within"):
        put(make(SHORT))
    hang.set()
    assert make().read("a.tar") == b"old"


@pytest.mark.parametrize("kind", [Faulty], indirect=True)
def test_lost_reply_to_renaming_is_no_conflict_with_oneself() -> None:
    class Lost(Faulty):
        protocol: ClassVar[str] = "lost"

        def mv(self, path1: str, path2: str, **_: Any) -> None:
            super().mv(path1, path2)
            if self.calls.count("mv") == 1:
                raise ConnectionError("lost")

    fsspec.register_implementation("lost", Lost, clobber=True)
    lost = FsspecStore("lost://x/data", RETRY)
    put(lost, create=True)
    assert lost.read("a.tar") == DATA
    assert lost.names() == ["a.tar"]


def test_creating_refuses_what_came_meanwhile_and_takes_equal_content_for_done(
    make: Callable[..., FsspecStore],
) -> None:
    put(make(), create=True)
    put(make(), create=True)
    for data in (b"other", DATA[:-1] + b"x", DATA + b"x"):
        with pytest.raises(UserError, match=r"a\.tar exists already with other content"):
            put(make(), data=data, create=True)
    assert make().read("a.tar") == DATA


def test_full_storage_is_not_asked_again(store: FsspecStore) -> None:
    Faulty.plans["put_file"] = [OSError(28, "No space left on device")]
    with pytest.raises(UserError, match=r"can't write .*a\.tar: No space left on device; make room and run"):
        put(store)
    assert Faulty.calls.count("put_file") == 1


def test_short_read_is_never_taken_for_the_end(store: FsspecStore) -> None:
    put(store)
    for read in (
        lambda: store.read("a.tar"),
        lambda: store.read("a.tar", 7)[-10:] and DATA,
        lambda: store.head("a.tar", len(DATA)),
        lambda: store.read_range("a.tar", 0, len(DATA)),
    ):
        Faulty.plans["cat_file"] = [100, 0, ConnectionError("reset")]
        Faulty.calls.clear()
        assert read() == DATA
        assert Faulty.calls.count("cat_file") == 4


@pytest.mark.parametrize(
    ("operation", "ask"),
    [
        ("cat_file", lambda store: store.read("a.tar")),
        ("cat_file", lambda store: store.head("a.tar", 10)),
        ("cat_file", lambda store: store.read_range("a.tar", 0, 10)),
        ("info", lambda store: store.size("a.tar")),
        ("info", lambda store: store.exists("a.tar")),
        ("ls", lambda store: store.names()),
        ("ls", lambda store: list(store.walk())),
        ("rm_file", lambda store: store.remove("a.tar")),
    ],
)
def test_every_request_is_tried_again_and_ends_when_it_hangs(
    make: Callable[..., FsspecStore], hang: threading.Event, monkeypatch: Any, operation: str, ask: Any
) -> None:
    monkeypatch.setattr("pack.storage.other._LISTING", 1)
    put(make())
    Faulty.plans[operation] = [hang] * 9
    with pytest.raises(UserError, match=r"not done within .* \(deadline 0\.3 s"):
        ask(make(SHORT))
    Faulty.plans[operation] = [ConnectionError("reset"), TimeoutError("slow")]
    Faulty.calls.clear()
    ask(make())
    assert Faulty.calls.count(operation) == 3


def test_filesystem_that_connects_when_it_is_opened_is_bounded_too(
    kind: type[Faulty], hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "__init__", lambda *_, **__: hang.wait())
    monkeypatch.setattr(kind, "cachable", False)
    with pytest.raises(UserError, match=r"can't open \w+://host/data: not done within .* \(deadline 0\.3 s"):
        FsspecStore(f"{kind.protocol}://host/data", SHORT)


@pytest.mark.parametrize("before", [None, b"old"])
def test_kill_in_the_midst_of_a_write_leaves_what_was_there(tmp_path: Path, before: bytes | None) -> None:
    script = (
        "import os, sys\n"
        "from fsspec.implementations.local import LocalFileSystem\n"
        "from pack.storage import FsspecStore\n"
        "def die(self, source, target, **_):\n"
        "    with open(target, 'wb') as file: file.write(b'half')\n"
        "    os._exit(9)\n"
        "LocalFileSystem.put_file = die\n"
        "with FsspecStore(sys.argv[1]).publish('a.tar') as file: file.write(b'whole')\n"
    )
    store = FsspecStore(f"local://{tmp_path}/data")
    if before:
        put(store, data=before)
    assert python(script, store.url).returncode == 9
    assert store.exists("a.tar") == bool(before)
    assert [name for name, _ in store.walk()] == (["a.tar"] if before else [])
    put(store)
    assert store.read("a.tar") == DATA
