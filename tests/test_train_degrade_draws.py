"""Draws of degradations: chains as often as stated, uniform parameters, nothing that depends on another."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from test_train_draws_independence import all_numbers, dependences

from recon.image.drawing import RESAMPLERS
from train.chains.declared import DISPLAYS
from train.draws.config import AugmentConfig
from train.draws.degrade import NONE, DrawnChain, chain_words, draw_chain, drawn_chains
from train.draws.parameters import visit_ids
from train.order.counter import stream_key, uniform

Numbers = NDArray[Any]
NOISE = [{"noise": {"sigma": 1}}]
CHAINS = AugmentConfig(
    views=3,
    degrade=[
        {
            "p": 0.25,
            "chain": [
                {"resize": {"factor": {"from": 0.25, "to": 2}, "resampler": "any"}},
                {"jpeg": {"quality": {"from": 30, "to": 95}, "subsampling": "any"}},
                {"jpeg": {"quality": {"from": 30, "to": 95}}},
            ],
        },
        {"p": 0.5, "view": 2, "chain": [{"screenshot": {"display": "any"}}, *NOISE]},
        {"p": 0.125, "view": 3, "chain": NOISE},
        {"p": 0.5, "view": 3, "chain": NOISE},
    ],
).chains
IDS = {
    "successive": np.arange(100_000, dtype=np.int64),
    "hashed": visit_ids(np.arange(100_000, dtype=np.int64), 1),
}


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize(
    ("view", "expected"), [(1, {0: 0.25}), (2, {0: 0.25, 1: 0.5}), (3, {0: 0.25, 2: 0.125, 3: 0.5})]
)
def test_at_most_one_chain_of_a_view_happens_as_often_as_stated(
    ids: str, view: int, expected: dict[int, float]
) -> None:
    found = Counter(drawn_chains(CHAINS, view, 5, 2, IDS[ids]).tolist())
    assert set(found) == {*expected, NONE}
    for number, p in expected.items():
        assert stats.binomtest(found[number], 100_000, p).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_chains_of_probability_0_and_1_happen_never_and_always(p: float) -> None:
    chains = AugmentConfig(degrade=[{"p": p, "chain": NOISE}]).chains
    assert set(drawn_chains(chains, 1, 0, 0, IDS["successive"]).tolist()) == {0 if p else NONE}


@pytest.fixture(scope="module")
def drawn() -> list[DrawnChain]:
    return [draw_chain(CHAINS, 0, 5, 2, pair) for pair in range(6000)]


def test_parameters_of_chains_are_uniform(drawn: list[DrawnChain]) -> None:
    factors = [float(one.steps[0].values["factor"]) for one in drawn]
    assert stats.kstest(factors, stats.uniform(0.25, 1.75).cdf).pvalue > 1e-4
    for axis in (0, 1):
        assert stats.kstest([one.place[axis] for one in drawn], "uniform").pvalue > 1e-4
    for step in (1, 2):
        counts = Counter(one.steps[step].values["quality"] for one in drawn)
        assert sorted(counts, key=float) == list(range(30, 96))
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_any_is_each_of_the_choices_alike_often(drawn: list[DrawnChain]) -> None:
    choices: list[tuple[list[Any], tuple[Any, ...]]] = [
        ([one.steps[0].values["resampler"] for one in drawn], RESAMPLERS),
        ([one.steps[1].values["subsampling"] for one in drawn], ("4:2:0", "4:2:2", "4:4:4")),
        ([draw_chain(CHAINS, 1, 5, 2, pair).steps[0].values["display"] for pair in range(6000)], DISPLAYS),
    ]
    for found, words in choices:
        counts = Counter(found)
        assert set(counts) == set(words)
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_draws_of_chains_depend_on_nothing_but_their_pair_epoch_seed_and_operation() -> None:
    def draw(seed: int, epoch: int, ids: Numbers) -> Numbers:
        words = [chain_words(CHAINS, number, seed, epoch, ids).T for number in range(len(CHAINS))]
        chosen = uniform(stream_key(seed, epoch, "degrade"), ids)[None]
        recipe = all_numbers(seed, epoch, ids)[::3]  # a third of them, in half of the time
        return np.concatenate([*(one / 2.0**63 for one in words), chosen, recipe])

    assert dependences(draw) == []


def test_the_draws_of_chains_never_change() -> None:
    """A change here would change the pixels of every run that is resumed."""
    assert drawn_chains(CHAINS, 3, 1, 2, np.arange(12)).tolist() == [
        *(NONE, 3, NONE, 0, 3, 3, 0, 3, 0, 3, 3, 2)
    ]
    found = draw_chain(CHAINS, 0, 1, 2, -5)
    values = [dict(step.values) for step in found.steps]
    assert found.place == (0.045796870149424906, 0.7355025053353172)
    assert values == [
        {"factor": 1.7361163631022078, "resampler": "bicubic"},
        {"quality": 56, "subsampling": "4:2:0"},
        {"quality": 55, "subsampling": "4:2:0"},
    ]
    assert found.steps[0].noise_key == 8068225741998628035
