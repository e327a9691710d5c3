from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.base.errors import UserError
from train.order.epoch import EpochOrder, ShuffleWindow, check_world
from train.order.line import Line
from train.order.mixture import Source

Visit = tuple[int, int, int, int]  # source, shard, row, copy


def order_of(
    *shard_pairs: int,
    weight: float = 1.0,
    seed: int = 0,
    epoch: int = 0,
    lanes: int = 4,
    block: int = 16,
    window: int = 3,
) -> EpochOrder:
    """The order of one dataset alone."""
    source = Source(shard_pairs=shard_pairs, weight=weight)
    return EpochOrder([source], seed=seed, epoch=epoch, lanes=lanes, block=block, window=window)


@st.composite
def sources(draw: st.DrawFn) -> list[Source]:
    """One to three datasets with some shards left empty by a filter."""
    shards = st.lists(st.integers(0, 60), min_size=1, max_size=7)
    weights = st.just(1.0) | st.floats(0.01, 3.5)
    return [Source(shard_pairs=draw(shards), weight=draw(weights)) for _ in range(draw(st.integers(1, 3)))]


@st.composite
def orders(draw: st.DrawFn, most_pairs: int = 10**6) -> tuple[EpochOrder, int]:
    """An order and a world size, 1..16, that divides its lanes."""
    world = draw(st.integers(1, 16))
    taken = draw(sources().filter(lambda some: sum(one.epoch_pairs for one in some) <= most_pairs))
    order = EpochOrder(
        taken,
        seed=draw(st.integers(0, 2**63 - 1)),
        epoch=draw(st.integers(0, 5)),
        lanes=world * draw(st.integers(1, 4)),
        block=draw(st.integers(1, 9)),
        window=draw(st.integers(1, 4)),
    )
    return order, world


def visits(window: ShuffleWindow) -> list[Visit]:
    """The pairs that a window hands out."""
    read = [(run.source, run.shard, run.first + i, run.copy) for run in window.runs for i in range(run.count)]
    return [read[i] for i in window.shuffle]


def rank_pairs(order: EpochOrder, rank: int, world: int, position: int = 0) -> Iterator[Visit]:
    """The pairs that a rank sees from a position on, as a reader hands them out."""
    buffers: dict[int, list[Visit]] = {lane: [] for lane in range(order.lanes)}
    windows = order.rank_windows(rank, world, position)
    first = position + (rank - position) % world
    for place in range(first, order.pairs, world):
        lane = place % order.lanes
        if not buffers[lane]:
            window = next(windows)
            assert window.lane == lane
            assert window.item == place // order.lanes
            buffers[lane] = visits(window)
        yield buffers[lane].pop(0)
    assert next(windows, None) is None
    assert not any(buffers.values())


def sequence(order: EpochOrder, world: int, position: int = 0) -> list[Visit]:
    """The pairs at positions from `position` on, put together from all ranks of a world."""
    found: dict[int, Visit] = {}
    for rank in range(world):
        first = position + (rank - position) % world
        places = range(first, order.pairs, world)
        found.update(zip(places, rank_pairs(order, rank, world, position), strict=True))
    return [found[place] for place in range(position, order.pairs)]


@given(orders())
@settings(max_examples=100, deadline=None)
def test_each_visit_comes_exactly_once_and_every_world_size_sees_the_same_order(
    drawn: tuple[EpochOrder, int],
) -> None:
    order, most = drawn
    alone = sequence(order, 1)
    assert len(set(alone)) == len(alone) == order.pairs
    for world in range(2, most + 1):
        if order.lanes % world == 0:
            assert sequence(order, world) == alone


@pytest.mark.parametrize("lanes", [720, 2002])  # between them, multiples of all of 1..16
def test_worlds_of_1_to_16_ranks_see_the_same_order(lanes: int) -> None:
    order = order_of(*[700] * 5, weight=1.6, lanes=lanes, block=2)
    assert order.block == 2
    alone = sequence(order, 1)
    for world in range(2, 17):
        if lanes % world == 0:
            assert sequence(order, world) == alone


@given(orders(most_pairs=150), st.integers(1, 4), st.data())
@settings(max_examples=40, deadline=None)
def test_entering_at_every_step_on_another_world_size_gives_the_very_tail(
    drawn: tuple[EpochOrder, int], per_rank: int, data: st.DataObject
) -> None:
    order, world = drawn
    other = data.draw(st.sampled_from([ranks for ranks in range(1, 17) if order.lanes % ranks == 0]))
    batch = per_rank * int(np.lcm(world, other))
    whole = sequence(order, world)
    for step in range(order.steps(batch) + 1):
        tail = whole[step * batch :]
        assert sequence(order, world, step * batch) == tail
        assert sequence(order, other, step * batch) == tail
        for rank in range(world):
            steps = list(order.positions(rank, world, batch))
            assert list(order.positions(rank, world, batch, step)) == steps[step:]


@given(orders(), st.data())
@settings(max_examples=60, deadline=None)
def test_entering_at_any_position_gives_the_very_tail(
    drawn: tuple[EpochOrder, int], data: st.DataObject
) -> None:
    order, world = drawn
    position = data.draw(st.integers(0, order.pairs))
    assert sequence(order, world, position) == sequence(order, 1)[position:]


@given(orders(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_all_ranks_have_equal_steps_and_only_the_last_is_masked(
    drawn: tuple[EpochOrder, int], per_rank: int
) -> None:
    order, world = drawn
    batch = per_rank * world
    ranks = [list(order.positions(rank, world, batch)) for rank in range(world)]
    assert {len(steps) for steps in ranks} == {order.steps(batch)}
    slots = sorted(place for steps in ranks for step in steps for place in step)
    assert slots == list(range(order.steps(batch) * batch))
    assert all(len(step) == per_rank for steps in ranks for step in steps)
    assert order.steps(batch) * batch - order.pairs < batch


@given(orders(most_pairs=400), st.integers(1, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_a_line_that_is_brought_in_parts_is_the_same_line(
    drawn: tuple[EpochOrder, int], most: int, data: st.DataObject
) -> None:
    order, world = drawn
    rank, position = data.draw(st.integers(0, world - 1)), data.draw(st.integers(0, order.pairs))
    whole = list(rank_pairs(order, rank, world, position))
    order._line = Line(order._line.parts, order._key("blocks"), most)
    order._lane_pieces = {}
    assert list(rank_pairs(order, rank, world, position)) == whole


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_all_lanes_of_a_rank_are_brought_on_together_and_few_pieces_are_kept(share: float) -> None:
    order, lanes, most = order_of(*[999] * 400, lanes=60, block=4), 30, 4_000
    scans = []

    class Counting(Line):
        def _scan(self) -> Iterator[Any]:
            scans.append(sum(len(bucket.numbers) for bucket in self._kept.values()))
            return super()._scan()

    order._line = Counting(order._line.parts, order._key("blocks"), most)
    assert order._line.pieces == 100_000
    windows = order.rank_windows(0, 60 // lanes, int(share * order.pairs))
    for _ in range(lanes):
        next(windows)
    assert len(scans) == 2  # one that counts, and one that brings what all lanes begin with
    for _ in windows:
        pass
    assert len(scans) - 2 < 1.5 * 50_000 * (1 - share) / most
    assert max(scans) <= 1.1 * most


def test_epochs_and_seeds_differ() -> None:
    def line(seed: int, epoch: int) -> list[Visit]:
        return sequence(order_of(40, 40, seed=seed, epoch=epoch, block=4, window=2), 1)

    assert line(0, 0) == line(0, 0)
    assert line(0, 0) != line(0, 1)
    assert line(0, 0) != line(1, 0)


def test_neighbours_in_a_shard_do_not_stay_neighbours() -> None:
    order = order_of(*[3000] * 4, seed=1, lanes=48)
    line = sequence(order, 1)
    together = sum(a[1] == b[1] and abs(a[2] - b[2]) < 16 for a, b in pairwise(line))
    assert together < len(line) // 100


def test_a_small_dataset_is_shuffled_pair_by_pair() -> None:
    assert order_of(100, lanes=192).block == 1


def test_a_reader_holds_at_most_one_window_a_lane() -> None:
    order = order_of(1000)
    for lane in range(4):
        for window in order.windows(lane):
            assert len(window.runs) <= 3
            assert sum(run.count for run in window.runs) <= 48


@pytest.mark.parametrize(("lanes", "batch"), [(10, 12), (12, 10)])
def test_a_world_size_that_divides_unevenly_is_refused_by_name(lanes: int, batch: int) -> None:
    with pytest.raises(UserError, match=r"=10 is not a multiple of the world size 4; use 8 or 12"):
        check_world(world_size=4, lanes=lanes, global_batch=batch)
