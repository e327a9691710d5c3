from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.base.errors import UserError
from train.order.epoch import EpochOrder
from train.order.mixture import Source

Pair = tuple[int, int, int]  # source, shard, row

WEIGHTS = st.just(1.0) | st.floats(0.001, 4.0) | st.sampled_from([0.5, 2.5, 1 / 3, 0.999])


@st.composite
def mixtures(draw: st.DrawFn) -> list[Source]:
    shards = st.lists(st.integers(0, 40), min_size=1, max_size=6)
    return [Source(shard_pairs=draw(shards), weight=draw(WEIGHTS)) for _ in range(draw(st.integers(1, 3)))]


def order_of(sources: list[Source], *, epoch: int = 0, block: int = 4, lanes: int = 4) -> EpochOrder:
    return EpochOrder(sources, seed=7, epoch=epoch, lanes=lanes, block=block, window=3)


def visits(order: EpochOrder) -> list[tuple[Pair, int]]:
    """All (pair, copy) of an epoch, lane by lane."""
    return [
        ((run.source, run.shard, run.first + row), run.copy)
        for lane in range(order.lanes)
        for window in order.windows(lane)
        for run in window.runs
        for row in range(run.count)
    ]


def all_pairs(number: int, source: Source) -> list[Pair]:
    return [(number, shard, row) for shard, pairs in enumerate(source.shard_pairs) for row in range(pairs)]


@given(mixtures(), st.integers(0, 9), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_an_epoch_holds_every_whole_copy_and_the_rounded_fraction(
    sources: list[Source], epoch: int, block: int
) -> None:
    order = order_of(sources, epoch=epoch, block=block)
    found = visits(order)
    assert len(found) == len(set(found)) == order.pairs
    for number, source in enumerate(sources):
        ours = [(pair, copy) for pair, copy in found if pair[0] == number]
        pairs = all_pairs(number, source)
        whole = int(source.weight)
        for copy in range(whole):
            assert sorted(pair for pair, found_copy in ours if found_copy == copy) == pairs
        rest = Counter(pair for pair, copy in ours if copy >= whole)
        assert rest.keys() <= set(pairs)
        assert max(rest.values(), default=0) <= 2
        assert {copy for _, copy in ours} <= set(range(whole + 2))
        expected = round((source.weight - whole) * len(pairs))
        assert rest.total() == (max(expected, min(1, len(pairs))) if whole == 0 else expected)


@given(mixtures(), st.integers(1, 12), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_after_any_number_of_epochs_no_pair_of_a_dataset_is_ahead_by_two(
    sources: list[Source], epochs: int, block: int
) -> None:
    seen = [Counter(dict.fromkeys(all_pairs(*numbered), 0)) for numbered in enumerate(sources)]
    for epoch in range(epochs):
        order = order_of(sources, epoch=epoch, block=block)
        assert order.pairs == order_of(sources, block=block).pairs
        for pair, _ in visits(order):
            seen[pair[0]][pair] += 1
        for counts in seen:
            assert not counts or max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("weight", [Fraction(1, 4), Fraction(2, 5), Fraction(5, 2), Fraction(9, 10)])
def test_fractions_add_up_to_equal_shares(weight: Fraction) -> None:
    source = Source(shard_pairs=[33, 0, 17, 10], weight=float(weight))
    epochs = weight.denominator
    seen = Counter(pair for epoch in range(epochs) for pair, _ in visits(order_of([source], epoch=epoch)))
    assert seen == Counter(dict.fromkeys(all_pairs(0, source), weight.numerator))


@pytest.mark.parametrize("at_once", [1, 7, 40])
def test_a_cycle_that_is_sorted_in_parts_is_the_same_cycle(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(shard_pairs=[30, 0, 17, 101, 5], weight=0.37)
    whole = [visits(order_of([source], epoch=epoch)) for epoch in range(4)]
    monkeypatch.setattr("train.order.mixture._SORTED", at_once)
    assert [visits(order_of([source], epoch=epoch)) for epoch in range(4)] == whole


def test_each_cycle_has_an_order_of_its_own() -> None:
    source = Source(shard_pairs=[40, 40], weight=0.5)
    halves = [{pair for pair, _ in visits(order_of([source], epoch=epoch))} for epoch in range(4)]
    assert halves[0] | halves[1] == halves[2] | halves[3] == set(all_pairs(0, source))
    assert halves[2] not in (halves[0], halves[1])


def test_each_dataset_of_a_mixture_walks_its_own_way_whatever_is_mixed_in() -> None:
    half = Source(shard_pairs=[40, 40], weight=0.5)
    both = visits(order_of([half, half]))
    taken = [{pair[1:] for pair, _ in both if pair[0] == number} for number in (0, 1)]
    assert taken[0] != taken[1]
    assert taken[0] == {pair[1:] for pair, _ in visits(order_of([half]))}


def test_a_pair_that_two_cycles_bring_in_one_epoch_has_two_copies() -> None:
    source = Source(shard_pairs=[40, 40], weight=0.7)
    found = visits(order_of([source], epoch=1))
    assert {copy for _, copy in found} == {0, 1}
    assert len(found) == len(set(found)) == 56
    assert max(Counter(pair for pair, _ in found).values()) == 2


def test_copies_lie_mixed_through_the_whole_epoch() -> None:
    order = order_of([Source(shard_pairs=[400] * 4, weight=2), Source(shard_pairs=[800], weight=2)])
    quarter = Counter(
        (run.source, run.copy) for lane in range(4) for run in next(order.windows(lane, item=900)).runs
    )
    assert len(quarter) == 4


def test_a_dataset_filtered_empty_adds_nothing() -> None:
    empty, full = Source(shard_pairs=[0, 0], weight=2.5), Source(shard_pairs=[0, 5, 0])
    assert {pair for pair, _ in visits(order_of([empty, full]))} == {(1, 1, row) for row in range(5)}
    assert visits(order_of([empty])) == []


def test_a_weight_far_below_one_pair_gives_one_pair_an_epoch() -> None:
    source = Source(shard_pairs=[3, 4], weight=1e-6)
    found = [visits(order_of([source], epoch=epoch)) for epoch in range(7)]
    assert all(len(pairs) == 1 for pairs in found)
    assert sorted(pairs[0][0] for pairs in found) == all_pairs(0, source)


def test_the_epoch_may_be_any_number() -> None:
    source = Source(shard_pairs=[1000] * 3, weight=0.37)
    order = order_of([source], epoch=10**12)
    assert len(set(visits(order))) == order.pairs == 1110


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_share_is_refused_by_name(weight: float) -> None:
    with pytest.raises(UserError, match=r"weight=\S+ of s3://b/faces, expected a finite number above 0"):
        Source(shard_pairs=[1], weight=weight, name="s3://b/faces")
