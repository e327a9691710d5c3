"""Intervals: what is drawn together, what a seed fixes, and how often the true value lies inside."""

from collections import Counter as Count
from math import sqrt

import numpy as np
import pytest
from figure_scores import binormal, scores_of
from numpy.typing import NDArray
from scipy.stats import norm

from recon.base.errors import UserError
from train.evaluation.figures.bootstrap import Bootstrap, intervals
from train.evaluation.figures.counts import Counter
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import FIGURES, by_group, figures_of
from train.evaluation.figures.scores import Scores, photograph_of

PLAIN = Decision()


def drawn(bootstrap: Bootstrap, scores: Scores) -> NDArray[np.float64]:
    return np.concatenate(list(bootstrap.weights(scores)))


def test_each_resample_draws_as_many_photographs_of_each_kind_as_there_are() -> None:
    # two pairs, three real images alone, two fakes alone of which one photograph has two
    photographs = ["p", "q", "p", "q", "r", "s", "t", "u", "v", "v"]
    scores = scores_of([0, 0, 1, 1, 0, 0, 0, 1, 1, 1], np.zeros(10), photographs=photographs)
    times_RP = drawn(Bootstrap(resamples=500), scores)  # p q | r s t | u v
    assert times_RP.shape == (500, 7)
    for kind, count in (([0, 1], 2), ([2, 3, 4], 3), ([5, 6], 2)):
        assert (times_RP[:, kind].sum(axis=1) == count).all()
    assert times_RP.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)
    assert set(times_RP[:, 2].tolist()) == {0, 1, 2, 3}


def test_a_pair_and_all_fakes_of_a_photograph_are_drawn_together() -> None:
    """Two photographs, each with a real image and fakes: an accuracy is that of one, the other, or both."""
    photographs = ["a", "a", "a", "b", "b", "b"]
    scores = scores_of([0, 1, 1, 0, 1, 1], [-1, 1, 1, 1, -1, -1], photographs=photographs)
    parts = [Counter(scores, PLAIN).figures(part) for part in Bootstrap(resamples=400).weights(scores)]
    shares = Count(np.concatenate([part["accuracy"] for part in parts]).tolist())
    assert set(shares) == {0.0, 0.5, 1.0}
    assert shares[0.5] / 400 == pytest.approx(0.5, abs=0.1)


def test_intervals_are_those_of_a_plain_loop_over_resamples() -> None:
    scores = binormal(np.random.default_rng(3), photographs=20, gap=1.0)
    bootstrap = Bootstrap(resamples=50, seed=4)
    found = figures_of(scores, PLAIN, bootstrap)
    photographs = sorted(set(scores.photographs))
    values = []
    for times_P in drawn(bootstrap, scores):
        chosen = [
            place
            for photograph, times in zip(photographs, times_P, strict=True)
            for place in np.flatnonzero(np.array(scores.photographs) == photograph).tolist() * int(times)
        ]
        values.append(figures_of(scores.chosen(np.array(chosen)), PLAIN))
    for name in FIGURES:
        expected = np.quantile([getattr(one, name) for one in values], (0.025, 0.975), method="weibull")
        assert found.intervals[name] == pytest.approx(tuple(expected), abs=1e-9), name


def test_a_seed_repeats_the_intervals_and_the_order_of_images_does_not_matter() -> None:
    scores = binormal(np.random.default_rng(0), photographs=30, gap=1.0)
    order = np.random.default_rng(1).permutation(60)
    one, again = (figures_of(scores, PLAIN, Bootstrap(resamples=99, seed=5)).intervals for _ in range(2))
    mixed = figures_of(scores.chosen(order), PLAIN, Bootstrap(resamples=99, seed=5)).intervals
    other = figures_of(scores, PLAIN, Bootstrap(resamples=99, seed=6)).intervals
    assert one == again
    assert {name: pytest.approx(ends) for name, ends in one.items()} == mixed
    assert one["auc"] != other["auc"]


def test_a_groups_intervals_do_not_depend_on_the_other_groups() -> None:
    scores = binormal(np.random.default_rng(0), photographs=20, gap=1.0)
    photographs = [f"{name}{half}" for name in ("a", "b") for half in range(10)] * 2
    groups = [name[0] for name in photographs]
    mixed = scores_of(scores.labels_N, scores.logits_N, groups, photographs)
    alone = mixed.chosen(np.array(groups) == "b")
    bootstrap = Bootstrap(resamples=50)
    assert by_group(mixed, PLAIN, bootstrap)["b"] == by_group(alone, PLAIN, bootstrap)["b"]


def test_figures_of_one_photograph_have_no_interval_and_a_reason() -> None:
    found = figures_of(scores_of([0, 1, 1], [0, 1, 2], photographs=["a", "b", "c"]), PLAIN, Bootstrap())
    assert (found.auc, found.intervals) == (1.0, {})
    assert found.missing == {"intervals": "the real images come from one photograph; nothing to resample"}


def test_a_class_that_is_missing_takes_only_its_figures_intervals() -> None:
    found = figures_of(scores_of([1, 1, 1], [0, 1, 2]), PLAIN, Bootstrap(resamples=10))
    assert set(found.intervals) == {name for name, one in FIGURES.items() if one.needs in ("any", "fake")}


def test_no_resample_is_refused() -> None:
    with pytest.raises(UserError, match="resamples=0, expected at least 1"):
        Bootstrap(resamples=0)


@pytest.mark.parametrize(
    ("name", "group", "photograph"),
    [
        ("a1b2.real", "sd", "a1b2"),
        ("a1b2.fake", "sd", "a1b2"),
        ("gan/0_real/x/7.png", "gan", "x/7"),
        ("gan/1_fake/x/7.jpg", "gan", "x/7"),
        ("real/7.png", "", "7"),
        ("gen_0/7.png", "gen_0", "7"),
        ("val/nature/n01.JPEG", "val", "n01"),
        ("photos/7.v2.png", "", "photos/7.v2"),
        ("noend", "g", "noend"),
    ],
)
def test_a_name_tells_the_photograph(name: str, group: str, photograph: str) -> None:
    assert photograph_of(name, group) == photograph


GAP = 1.2
TRUTH = {
    "auc": norm.cdf(GAP / sqrt(2)),
    "balanced_accuracy": (norm.cdf(0.5) + norm.cdf(GAP - 0.5)) / 2,
    "real_accuracy": norm.cdf(0.5),
    "fake_accuracy": norm.cdf(GAP - 0.5),
    "eer": norm.cdf(-GAP / 2),
    "pd_at_far_10": norm.cdf(GAP + norm.ppf(0.1)),
    "brier": None,
    "nll": None,
}
"""The known values of `binormal` at a threshold of .5, None for an integral."""


def truth(name: str) -> float:
    known = TRUTH[name]
    if known is not None:
        return float(known)
    z = np.linspace(-12, 12, 200_001)
    loss = {"nll": lambda x: np.logaddexp(0, x), "brier": lambda x: (1 / (1 + np.exp(-x))) ** 2}[name]
    real, fake = loss(z), loss(-z - GAP)
    return float(np.trapezoid(norm.pdf(z) * (real + fake) / 2, z))


def coverage(sets: int, photographs: int, resamples: int) -> dict[str, float]:
    """How often the interval of each figure holds its true value."""
    decision, inside = Decision(threshold=0.5), Count[str]()
    values = {name: truth(name) for name in TRUTH}
    for number in range(sets):
        scores = binormal(np.random.default_rng([7, number]), photographs, GAP)
        counter = Counter(scores, decision)
        parts = [
            counter.figures(part) for part in Bootstrap(resamples=resamples, seed=number).weights(scores)
        ]
        ends = intervals({name: np.concatenate([part[name] for part in parts]) for name in TRUTH})
        inside.update(name for name, (low, high) in ends.items() if low <= values[name] <= high)
    return {name: inside[name] / sets for name in TRUTH}


WIDE = ("eer", "pd_at_far_10")
"""Single places of the ROC curve: their intervals are a little too wide in small sets."""


def outside(found: dict[str, float]) -> dict[str, float]:
    most = {name: 0.985 if name in WIDE else 0.97 for name in found}
    return {name: share for name, share in found.items() if not 0.93 <= share <= most[name]}


def test_intervals_hold_the_known_value_in_93_to_97_per_cent_of_1000_simulated_sets() -> None:
    assert outside(coverage(sets=1000, photographs=100, resamples=199)) == {}


@pytest.mark.soak
def test_intervals_with_all_resamples_hold_the_known_value_as_often() -> None:
    assert outside(coverage(sets=1000, photographs=400, resamples=999)) == {}
