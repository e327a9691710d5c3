"""Ranks that claim, write and complete at the same time: whatever the moment, the dataset is that of one."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pytest
from pack_runs import config, files, pack_rank, write_spoilt
from s3_server import S3Env

from pack.publish import claim as claiming
from pack.publish.claim import Claim, claim, put
from pack.publish.finish import finish
from pack.publish.packing import pack
from pack.shard.manifest import PLAN
from pack.storage import BusyError, LocalStore, Store, open_store
from recon.base.errors import UserError

OURS = Claim(plan="a" * 64, name="photos", split=None, shards=4, provenance={"options": {}}, fields=None)
OPERATIONS = ("names", "exists", "size", "read", "read_range", "remove")  # and publish


@pytest.fixture(params=["local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where nothing is yet."""
    if request.param == "local":
        yield str(tmp_path / "out")
    elif request.param == "s3":
        env: S3Env = request.getfixturevalue("s3_env")
        yield env.url
    else:
        root = f"memory://{uuid.uuid4()}"
        yield f"{root}/data"
        fsspec.filesystem("memory").rm(root, recursive=True)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each of the calls returned or raised, all begun together."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(300)
        try:
            return call()
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def seen_together(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Lets `count` claimers look at the output before the first of them claims it."""
    barrier, leave = threading.Barrier(count), claiming._leave

    def late(store: Store, text: bytes) -> None:
        barrier.wait(300)
        leave(store, text)

    monkeypatch.setattr("pack.publish.claim._leave", late)


def test_ranks_that_claim_at_the_same_time_all_have_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_together(monkeypatch, 4)
    assert at_once(*[lambda: claim(open_store(url), OURS)] * 4) == [False] * 4
    assert open_store(url).read(PLAN) == OURS.to_json().encode()
    assert open_store(url).names() == [PLAN]


@pytest.mark.parametrize("url", ["local", "s3"], indirect=True)  # fsspec has no create-only
def test_one_of_two_different_runs_that_claim_at_the_same_time_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_together(monkeypatch, 2)
    claims = [OURS, replace(OURS, plan="b" * 64)]
    outcomes = at_once(*[lambda ours=ours: claim(open_store(url), ours) for ours in claims])
    assert outcomes.count(False) == 1
    winner = claims[outcomes.index(False)]
    assert open_store(url).read(PLAN) == winner.to_json().encode()
    refused = next(one for one in outcomes if one is not False)
    assert "holds an unfinished dataset of other images, options or versions" in str(refused)


def test_publishing_waits_for_another_process_at_the_same_object(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    writing = threading.Event()

    def slowly() -> None:
        with store.publish("a.json", create=True) as file:
            writing.set()
            time.sleep(0.3)
            file.write(b"{}")

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(slowly)
        assert writing.wait(300)
        put(LocalStore(str(tmp_path)), "a.json", b"{}", create=True)
        slow.result()
    assert files(tmp_path) == {"a.json": b"{}"}


class Interrupted:
    """A store in which, before its operation number `at`, something else happens.

    All other operations wait for that to end, those of the publishing thread too.

    Args:
        store: the real one.
        at: number of the operation, counted over all of `OPERATIONS` and publish.
        other: what happens then, in the same thread; others that write what this one is writing are
            refused, and are to be run again.
    """

    def __init__(self, store: Store, at: int, other: Callable[[], None]) -> None:
        self.store, self.left, self.other = store, at, other
        self.url = store.url
        self.lock = threading.RLock()
        self.refused = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name not in OPERATIONS:
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            with self.lock:
                self._count()
                return method(*arguments, **options)

        return call

    @contextmanager
    def publish(self, name: str, **options: Any) -> Iterator[BinaryIO]:
        """Opened before anything else can happen."""
        with ExitStack() as stack:
            with self.lock:
                self._count()
                file = stack.enter_context(self.store.publish(name, **options))
            yield file

    def _count(self) -> None:
        self.left -= 1
        if self.left == -1:
            try:
                self.other()
            except BusyError:
                self.refused = True


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spoilt(tmp_path_factory.mktemp("spoilt") / "photos")


@pytest.fixture(scope="module")
def expected(spoilt: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The dataset of one undisturbed process."""
    out = tmp_path_factory.mktemp("expected") / "out"
    pack(config(spoilt, out, shard_pairs=2))
    return files(out)


Part = tuple[int, int]  # rank and world size


def disturbed(source: Path, out: Path, part: Part, at: int, other: Callable[[], None]) -> bool:
    """Packs a part, `other` happening before its operation `at`; whether there were so many."""
    store = Interrupted(LocalStore(str(out)), at, other)
    stores = iter((store,))  # those of `other` are plain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pack.publish.packing.open_store",
            lambda url: (next(stores, None) if url == str(out) else None) or open_store(url),
        )
        pack_rank(source, out, *part, shard_pairs=2)
    if store.refused:
        other()
    return store.left < 0


@pytest.mark.parametrize(
    ("part", "others"),
    [
        ((0, 2), [(1, 2)]),
        ((1, 2), [(0, 2)]),
        ((0, 2), [(0, 1)]),
        ((1, 2), [(0, 1)]),
        ((0, 1), [(0, 1)]),
        ((0, 1), [(1, 2)]),
        ((0, 2), [(0, 2), (1, 2)]),
    ],
    ids=str,
)
def test_other_ranks_may_do_all_of_theirs_at_any_moment_of_one(
    spoilt: Path, expected: dict[str, bytes], tmp_path: Path, part: Part, others: list[Part]
) -> None:
    """Also those of another world size, and the same rank a second time."""

    def other() -> None:
        for rank, world in others:
            pack_rank(spoilt, out, rank, world, shard_pairs=2)

    at, happened = 0, True
    while happened:
        out = tmp_path / str(at)
        happened = disturbed(spoilt, out, part, at, other)
        if not happened:
            other()
        assert files(out) == expected, at
        at += 1
    assert at > 10  # else it proved little


def test_others_may_complete_the_dataset_at_any_moment_of_completing_it(
    spoilt: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pack.publish.finish._READERS", 1)
    with monkeypatch.context() as patch:
        patch.setattr("pack.publish.packing.finish", lambda *_: [])
        pack(config(spoilt, tmp_path / "shards", shard_pairs=2))
    ours = claiming.read_claim(open_store(str(tmp_path / "shards")))
    assert ours
    at, happened = 0, True
    while happened:
        out = tmp_path / str(at)
        copied(tmp_path / "shards", out)
        store = Interrupted(LocalStore(str(out)), at, lambda: _completed(out, ours))  # noqa: B023
        assert finish(store, ours) == []  # type: ignore[arg-type]
        happened = store.left < 0
        assert files(out) == expected, at
        at += 1
    assert at > 10


def _completed(out: Path, ours: Claim) -> None:
    assert finish(LocalStore(str(out)), ours) == []


def copied(source: Path, target: Path) -> None:
    target.mkdir()
    for name, data in files(source).items():
        (target / name).write_bytes(data)


def test_many_finishers_at_once_all_find_it_complete(
    spoilt: Path, expected: dict[str, bytes], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pack.publish.packing.finish", lambda *_: [])
        pack(config(spoilt, url, shard_pairs=2))
    ours = claiming.read_claim(open_store(url))
    assert ours
    assert at_once(*[lambda: finish(open_store(url), ours)] * 6) == [[]] * 6
    store = open_store(url)
    assert {name: store.read(name) for name in store.names()} == expected
