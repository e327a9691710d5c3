from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import UserError
from train.order import EpochOrder, check_world

Pair = tuple[int, int]  # shard, row


@st.composite
def orders(draw: st.DrawFn) -> tuple[EpochOrder, int]:
    """An order and the largest world size that divides its lanes."""
    world = draw(st.integers(1, 6))
    order = EpochOrder(
        draw(st.lists(st.integers(1, 60), min_size=1, max_size=7)),
        seed=draw(st.integers(0, 2**63 - 1)),
        epoch=draw(st.integers(0, 5)),
        lanes=world * draw(st.integers(1, 4)),
        block=draw(st.integers(1, 9)),
        window=draw(st.integers(1, 4)),
    )
    return order, world


def rank_pairs(order: EpochOrder, rank: int, world: int, position: int = 0) -> Iterator[Pair]:
    """The pairs that a rank sees from a position on, as a reader hands them out."""
    buffers: dict[int, list[Pair]] = {lane: [] for lane in range(order.lanes)}
    windows = order.rank_windows(rank, world, position)
    first = position + (rank - position) % world
    for place in range(first, order.pairs, world):
        lane = place % order.lanes
        if not buffers[lane]:
            window = next(windows)
            assert window.lane == lane
            assert window.item == place // order.lanes
            read = [(run.shard, run.first + i) for run in window.runs for i in range(run.count)]
            buffers[lane] = [read[i] for i in window.shuffle]
        yield buffers[lane].pop(0)
    assert next(windows, None) is None
    assert not any(buffers.values())


def sequence(order: EpochOrder, world: int, position: int = 0) -> list[Pair]:
    """The pairs at positions from `position` on, put together from all ranks of a world."""
    found: dict[int, Pair] = {}
    for rank in range(world):
        first = position + (rank - position) % world
        places = range(first, order.pairs, world)
        found.update(zip(places, rank_pairs(order, rank, world, position), strict=True))
    return [found[place] for place in range(position, order.pairs)]


@given(orders())
@settings(max_examples=100, deadline=None)
def test_each_pair_comes_exactly_once_and_every_world_size_sees_the_same_order(
    drawn: tuple[EpochOrder, int],
) -> None:
    order, world = drawn
    alone = sequence(order, 1)
    assert len(set(alone)) == len(alone) == order.pairs
    assert sequence(order, world) == alone


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


def test_epochs_and_seeds_differ() -> None:
    def line(seed: int, epoch: int) -> list[Pair]:
        return sequence(EpochOrder([40, 40], seed=seed, epoch=epoch, lanes=4, block=4, window=2), 1)

    assert line(0, 0) == line(0, 0)
    assert line(0, 0) != line(0, 1)
    assert line(0, 0) != line(1, 0)


def test_neighbours_in_a_shard_do_not_stay_neighbours() -> None:
    order = EpochOrder([3000] * 4, seed=1, epoch=0, lanes=48, block=16, window=3)
    line = sequence(order, 1)
    together = sum(a[0] == b[0] and abs(a[1] - b[1]) < 16 for a, b in pairwise(line))
    assert together < len(line) // 100


def test_a_small_dataset_is_shuffled_pair_by_pair() -> None:
    assert EpochOrder([100], seed=0, epoch=0, lanes=192, block=16, window=3).block == 1


def test_a_reader_holds_at_most_one_window_a_lane() -> None:
    order = EpochOrder([1000], seed=0, epoch=0, lanes=4, block=16, window=3)
    for lane in range(4):
        for window in order.windows(lane):
            assert len(window.runs) <= 3
            assert sum(run.count for run in window.runs) <= 48


@pytest.mark.parametrize(("lanes", "batch"), [(10, 12), (12, 10)])
def test_a_world_size_that_divides_unevenly_is_refused_by_name(lanes: int, batch: int) -> None:
    with pytest.raises(UserError, match=r"=10 is not a multiple of the world size 4; use 8 or 12"):
        check_world(world_size=4, lanes=lanes, global_batch=batch)


def test_twenty_million_pairs_can_be_entered_anywhere() -> None:
    order = EpochOrder([1000] * 20_000, seed=0, epoch=3, lanes=192, block=16, window=3)
    window = next(order.rank_windows(0, 8, position=12_345_678))
    assert window.item * 192 + window.lane >= 12_345_678
