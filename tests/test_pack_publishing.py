"""A shard is published while the next one is packed: in order, one behind at most, and no failure is late."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pack_runs import config, files
from patience import PATIENCE_S

from pack.pipeline.maker import PairMaker
from pack.publish.packing import pack
from pack.publish.publisher import Publisher
from pack.shard.writer import ShardWriter
from pack.storage import LocalStore
from recon.base.errors import UserError

PER_SHARD = 4
Happened = list[str]


def watch(monkeypatch: pytest.MonkeyPatch, before_end: Callable[[str], None]) -> Happened:
    """Notes what begins and has ended to be published; `before_end` is called with a name in between."""
    happened: Happened = []
    publish = LocalStore.publish

    @contextmanager
    def noted(self: LocalStore, name: str, **options: Any) -> Iterator[BinaryIO]:
        happened.append(f"begin {name}")
        with publish(self, name, **options) as file:
            yield file
            before_end(name)
        happened.append(f"end {name}")

    monkeypatch.setattr(LocalStore, "publish", noted)
    return happened


def on_add(monkeypatch: pytest.MonkeyPatch, number: int, call: Callable[[], object]) -> Callable[[], int]:
    """Calls something before the pair of that number is written, from 1 on; returns how many were."""
    add, count = ShardWriter.add, 0

    def counting(self: ShardWriter, pair: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            call()
        add(self, pair)

    monkeypatch.setattr(ShardWriter, "add", counting)
    return lambda: count


def test_next_shard_is_packed_while_one_is_being_published(
    packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on, waited = threading.Event(), []

    def slow(name: str) -> None:
        if name == "shard-000000.tar":
            waited.append(went_on.wait(PATIENCE_S))

    watch(monkeypatch, slow)
    on_add(monkeypatch, 2 * PER_SHARD, went_on.set)
    pack(config(photographs, tmp_path / "out"))
    assert waited == [True], "no pair was taken until the shard was published"
    assert files(tmp_path / "out") == files(packed)


def test_publishing_is_in_order_and_never_more_than_one_shard_behind(
    packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()

    def slow(name: str) -> None:
        if name == "shard-000000.parquet":
            assert written.wait(PATIENCE_S)
            third.wait(0.3)  # which does not come before this has ended

    third = threading.Event()
    happened = watch(monkeypatch, slow)
    on_add(monkeypatch, 2 * PER_SHARD, written.set)
    monkeypatch.setattr("pack.publish.packing.ShardWriter", _noting(third))
    pack(config(photographs, tmp_path / "out"))
    assert happened.index("end shard-000000.parquet") < happened.index("begin shard-000002.tar")
    shards = [one for one in happened if one.startswith("end shard")]
    assert shards == [f"end shard-00000{n}.{suffix}" for n in range(3) for suffix in ("tar", "parquet")]
    assert happened[-1] == "end dataset.json"
    assert files(tmp_path / "out") == files(packed)


def _noting(third: threading.Event) -> Callable[..., ShardWriter]:
    """Shard writers, of which the third sets the event."""
    made: list[ShardWriter] = []

    def make(*arguments: Any) -> ShardWriter:
        made.append(ShardWriter(*arguments))
        if len(made) == 3:
            third.set()
        return made[-1]

    return make


@pytest.mark.parametrize("what", ["tar", "parquet"])
@pytest.mark.parametrize("error", [UserError("bucket is gone"), OSError(5, "broken"), KeyboardInterrupt()])
def test_failure_to_publish_ends_packing_at_the_next_pair(
    packed: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    error: BaseException,
) -> None:
    failed, fail = threading.Event(), PairMaker.fail

    def told(self: PairMaker, error: BaseException) -> None:
        fail(self, error)
        failed.set()

    def failing(name: str) -> None:
        if name == f"shard-000000.{what}":
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(PairMaker, "fail", told)
        watch(patch, failing)
        written = on_add(patch, PER_SHARD + 1, lambda: failed.wait(PATIENCE_S))
        expected = UserError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected):
            pack(config(photographs, tmp_path / "out"))
        assert PER_SHARD <= written() <= PER_SHARD + 1  # the next pair may have begun or not
    left = {"plan.json"} | ({"shard-000000.tar"} if what == "parquet" else set())
    assert set(files(tmp_path / "out")) == left
    pack(config(photographs, tmp_path / "out"))
    assert files(tmp_path / "out") == files(packed)


def test_failure_to_publish_the_last_shard_is_a_failure_of_packing(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(name: str) -> None:
        if name == "shard-000002.parquet":
            raise UserError("bucket is gone")

    watch(monkeypatch, failing)
    with pytest.raises(UserError, match="bucket is gone"):
        pack(config(photographs, tmp_path / "out"))
    assert not (tmp_path / "out/dataset.json").exists()


def test_failure_to_publish_wakes_packing_that_waits_for_a_pair(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The autoencoder gives no pair before packing has ended."""
    from pack.pipeline.encoding import Encoder

    finish, ended, count = Encoder.finish, threading.Event(), 0

    def stuck(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > PER_SHARD:
            failed.wait(PATIENCE_S)
            ended.wait(0.3)  # close() waits for this thread
        return finish(*arguments)

    def failing(name: str) -> None:
        if name == "shard-000000.tar":
            failed.set()
            raise UserError("bucket is gone")

    failed = threading.Event()
    monkeypatch.setattr(Encoder, "finish", stuck)
    watch(monkeypatch, failing)
    with pytest.raises(UserError, match="bucket is gone"):
        pack(config(photographs, tmp_path / "out"))


def test_what_is_being_published_is_not_thrown_away_where_packing_fails() -> None:
    begun, done = threading.Event(), []

    def publish() -> None:
        begun.set()
        done.append(True)

    def packing() -> None:
        with Publisher(lambda _: None) as publisher:
            publisher.begin(publish)
            begun.wait(PATIENCE_S)
            raise UserError("no memory")

    with pytest.raises(UserError, match="no memory"):
        packing()
    assert done == [True]
