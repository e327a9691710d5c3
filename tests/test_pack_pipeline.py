"""The pipeline of a rank: order and bytes follow from the items alone, and nothing is left behind."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph, save
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_items import (
    Dimming,
    Shard,
    config_of,
    cut,
    items_of,
    made,
    maker_of,
    tuned,
    write_mixture,
)

from pack.base.items import File, Item
from pack.pipeline.decoding import Decoder, Rejection
from pack.pipeline.encoding import Encoder
from pack.pipeline.maker import PairMaker
from pack.shard.pair import Pair
from recon.base.errors import RejectedImageError, UserError
from recon.image.codec import decode
from recon.models.load import load


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 21),
    readers=st.integers(1, 5),
    encoders=st.integers(1, 5),
    buffer_kb=st.sampled_from((0, 1, 10, 1000)),
    backlog=st.sampled_from((0, 5_000, 1 << 20)),
    results=st.sampled_from((0, 5_000, 1 << 20)),
    batch_size=st.integers(1, 5),
)
def test_order_and_bytes_are_the_same_whatever_the_threads_and_buffers(
    mixture: Path,
    count: int,
    readers: int,
    encoders: int,
    buffer_kb: int,
    backlog: int,
    results: int,
    batch_size: int,
) -> None:
    shards = cut(items_of(mixture), count)
    config = config_of(mixture, batch_size=batch_size)
    with tuned(maker__threads_of=lambda _: (1, 1)):
        expected = made(maker_of(config, Dimming()), shards)
    object.__setattr__(config, "buffer_mb", _Kilobytes(buffer_kb))
    threads = (readers, encoders)
    with tuned(maker__threads_of=lambda _: threads, pipeline__BACKLOG=backlog, pipeline__RESULTS=results):
        assert made(maker_of(config, Dimming()), iter(shards)) == expected
    assert [number for number, _ in expected] == [number for number, _ in shards]


class _Kilobytes(int):
    """Where MiB are expected, less than one."""

    def __lshift__(self, bits: int) -> int:
        assert bits == 20
        return int(self) << 10


def test_results_of_a_shard_are_one_an_item_in_its_order(mixture: Path) -> None:
    items = items_of(mixture)
    [(number, results)] = made(maker_of(config_of(mixture), Dimming()), [(7, items)])
    assert number == 7
    found = [one.path if isinstance(one, Rejection) else one.record["path"] for one in results]
    assert found == [item.path for item in items]
    rejected = {one.path: one.cause for one in results if isinstance(one, Rejection)}
    assert [int(path[:2]) for path in rejected] == [4, 9, 14, 19]
    assert all("broken" in cause or "readable" in cause for cause in rejected.values())


def test_batches_never_cross_a_shard_and_hold_one_size(mixture: Path) -> None:
    autoencoder = Dimming()
    items = [item for item in items_of(mixture) if int(item.path[:2]) % 5 != 4]
    made(maker_of(config_of(mixture, batch_size=3), autoencoder), cut(items, 8))
    sizes = Counter((shape[2:], shape[0]) for shape in autoencoder.batches)
    assert sum(shape[0] for shape in autoencoder.batches) == len(items)
    assert sizes == {((24, 32), 2): 2, ((32, 24), 2): 2, ((64, 48), 2): 2, ((16, 8), 2): 2}


def test_batches_never_cross_a_segment_so_that_no_pair_waits_for_long(mixture: Path) -> None:
    items = [item for item in items_of(mixture) if int(item.path[:2]) % 5 != 4]
    autoencoder = Dimming()
    with tuned(pipeline__SEGMENT_PIXELS=1):
        made(maker_of(config_of(mixture), autoencoder), [(0, items)])
    assert [shape[0] for shape in autoencoder.batches] == [1] * len(items)


def test_shards_may_be_empty_or_none(mixture: Path) -> None:
    items = items_of(mixture)[:2]
    maker = maker_of(config_of(mixture), Dimming())
    assert made(maker, []) == []
    results = made(maker, [(0, []), (1, items[:1]), (2, []), (3, items[1:])])
    assert [(number, len(many)) for number, many in results] == [(0, 0), (1, 1), (2, 0), (3, 1)]


def test_every_autoencoder_gets_its_own_items_and_leaves_its_own_name(mixture: Path) -> None:
    bright, dim = load(config_of(mixture)), Dimming()
    items = [replace(item, autoencoder=number % 2) for number, item in enumerate(items_of(mixture)[:4])]
    [(_, results)] = made(maker_of(config_of(mixture, codec="lossless-png"), bright, dim), [(0, items)])
    names = [one.record["autoencoder"] for one in results if isinstance(one, Pair)]
    assert names == ["identity", "dimming", "identity", "dimming"]
    for one in results:
        assert isinstance(one, Pair)
        real, fake = (decode(data, max_pixels=10**6).pixels for data in (one.real, one.fake))
        assert np.array_equal(real, fake) == (one.record["autoencoder"] == "identity")


def test_photograph_of_many_tiles_or_autoencoders_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", photograph(64, 64, 0))
    file = File(str(tmp_path), "a.png")
    corners = [(y, x) for y in range(0, 64, 16) for x in range(0, 64, 16)]
    items = [
        Item(path="a.png", group="g", real=file, tile=corner, variant=str(which), autoencoder=which)
        for corner in corners
        for which in (0, 1)
    ]
    reads = []
    read = File.read

    def counted(self: File) -> bytes:
        reads.append(self.name)
        return read(self)

    monkeypatch.setattr(File, "read", counted)
    config = config_of(tmp_path, tile=16)
    [(_, results)] = made(maker_of(config, Dimming(), Dimming()), [(0, items)])
    assert len({one.key for one in results if isinstance(one, Pair)}) == 32
    assert reads == ["a.png"]
    for item, one in zip(items, results, strict=True):
        assert isinstance(one, Pair)
        assert item.tile is not None
        y, x = item.tile
        tile = decode(one.real, max_pixels=10**6).pixels
        assert np.array_equal(tile, photograph(64, 64, 0)[y : y + 16, x : x + 16])


def test_next_shard_is_made_while_the_last_is_not_taken_yet(mixture: Path) -> None:
    autoencoder = Dimming()
    shards = cut(items_of(mixture), 5)
    with maker_of(config_of(mixture), autoencoder) as maker:
        results = maker.shards(shards)
        _, first = next(results)
        deadline = time.monotonic() + 600
        while sum(shape[0] for shape in autoencoder.batches) < 16 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sum(shape[0] for shape in autoencoder.batches) == 16
        assert len(list(first)) == 5


def test_no_more_is_made_ahead_than_the_limits_say(mixture: Path) -> None:
    [good] = [item for item in items_of(mixture) if item.path == "02.webp"]
    drawn = []

    def shards() -> Iterator[Shard]:
        for number in range(300):
            drawn.append(number)
            yield number, [replace(good, path=f"{number}.webp")]

    config = config_of(mixture)
    object.__setattr__(config, "buffer_mb", _Kilobytes(50))
    with tuned(pipeline__BACKLOG=50_000, pipeline__RESULTS=50_000), maker_of(config, Dimming()) as maker:
        results = maker.shards(shards())
        next(results)
        _wait_until_still(drawn)
        assert len(drawn) < 60


def _wait_until_still(drawn: list[int]) -> None:
    """Waits until nothing was drawn for a while."""
    seen = -1
    while seen != len(drawn):
        seen = len(drawn)
        time.sleep(0.3)


class _Failing(Dimming):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def reconstruct_batch(self, x_BCHW: Any, seeds: Sequence[int]) -> Any:
        if len(self.batches) == 2:
            raise self.error
        return super().reconstruct_batch(x_BCHW, seeds)


@pytest.mark.parametrize("error", [UserError("no memory"), ZeroDivisionError("bug"), KeyboardInterrupt()])
def test_failure_of_the_autoencoder_comes_to_the_consumer_as_it_is(
    mixture: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught:
        made(maker_of(config_of(mixture), _Failing(error)), cut(items_of(mixture), 3))
    assert caught.value is error


class _Interrupted(Dimming):
    """Sends the process a SIGINT, as Ctrl-C does, while the consumer waits for its batch."""

    def reconstruct_batch(self, x_BCHW: Any, seeds: Sequence[int]) -> Any:
        if not self.batches:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return super().reconstruct_batch(x_BCHW, seeds)


def test_ctrl_c_while_the_consumer_waits_ends_all_threads(mixture: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job
    try:
        with pytest.raises(KeyboardInterrupt):
            made(maker_of(config_of(mixture), _Interrupted()), cut(items_of(mixture), 5))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("stage", "step"), [(Decoder, "open"), (Encoder, "finish")])
def test_failure_in_a_decoding_or_encoding_thread_comes_to_the_consumer(
    mixture: Path, monkeypatch: pytest.MonkeyPatch, stage: type, step: str
) -> None:
    def failing(*_: object) -> None:
        raise UserError("storage fails")

    monkeypatch.setattr(stage, step, failing)
    with pytest.raises(UserError, match="storage fails"):
        made(maker_of(config_of(mixture), Dimming()), cut(items_of(mixture), 3))


def test_failure_in_the_list_of_shards_comes_to_the_consumer(mixture: Path) -> None:
    def shards() -> Iterator[Shard]:
        yield 0, items_of(mixture)[:3]
        raise UserError("no such bucket")

    with pytest.raises(UserError, match="no such bucket"):
        made(maker_of(config_of(mixture), Dimming()), shards())


def test_file_that_cannot_be_read_is_rejected_and_the_rest_goes_on(
    mixture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = File.read

    def missing(self: File) -> bytes:
        if self.name.startswith("00"):
            raise RejectedImageError("gone")
        return read(self)

    monkeypatch.setattr(File, "read", missing)
    [(_, results)] = made(maker_of(config_of(mixture), Dimming()), [(0, items_of(mixture)[:3])])
    assert results[0] == Rejection(path="00.png", tile=None, cause="gone")
    assert all(isinstance(one, Pair) for one in results[1:])


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_consumer_may_stop_early(mixture: Path, taken: int) -> None:
    with maker_of(config_of(mixture), Dimming()) as maker:
        shards = maker.shards(cut(items_of(mixture), 5))
        _, results = next(shards)
        for _ in range(taken):
            next(results)


def test_consumer_that_is_interrupted_leaves_no_thread(mixture: Path) -> None:
    def consume(maker: PairMaker) -> None:
        with maker:
            for _, results in maker.shards(cut(items_of(mixture), 5)):
                next(results)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume(maker_of(config_of(mixture), Dimming()))


def test_close_may_come_first_twice_or_before_another_pass(mixture: Path) -> None:
    maker = maker_of(config_of(mixture), Dimming())
    maker.close()
    shards = cut(items_of(mixture), 5)
    next(maker.shards(shards))
    maker.close()
    maker.close()
    assert len(made(maker, shards)) == 4


def test_shard_whose_results_were_not_taken_is_not_passed_over(mixture: Path) -> None:
    with maker_of(config_of(mixture), Dimming()) as maker:
        shards = maker.shards(cut(items_of(mixture), 5))
        next(shards)
        with pytest.raises(AssertionError, match="shard 1 has results"):
            next(shards)


def test_threads_wait_for_nothing_when_items_bring_their_reconstructions(mixture: Path) -> None:
    good = [item for item in items_of(mixture) if int(item.path[:2]) % 5 != 4]
    items = [replace(item, fake=item.real) for item in good]
    maker = PairMaker(
        config_of(mixture, reconstructions="given", codec="keep"), [], [{"autoencoder": "given"}]
    )
    [(_, results)] = made(maker, [(0, items)])
    for item, one in zip(items, results, strict=True):
        assert isinstance(one, Pair)
        assert one.real == one.fake == item.real.read()
        assert one.record["autoencoder"] == "given"
