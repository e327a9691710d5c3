"""Figures of scores: by hand on small cases, by their invariants on drawn ones."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from recon.base.errors import UserError
from train.evaluation.metrics import summarize

LOGITS = np.array([-2.0, 0.5, -1.0, 3.0, 0.0])
LABELS = np.array([0, 0, 1, 1, 1])


@st.composite
def scored(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=30))
    logits = draw(st.lists(st.integers(-40, 40), min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(logits) / 8.0


def test_figures_equal_those_counted_by_hand() -> None:
    found = summarize(LABELS, LOGITS)
    # fakes (-1, 3, 0) beat reals (-2, .5) in 1 + 2 + 1 of 6 comparisons
    assert found.auc == pytest.approx(4 / 6)
    # ranked 3 F, .5 R, 0 F, -1 F, -2 R: precision 1, 2/3, 3/4 at the three fakes
    assert found.ap == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found.real_accuracy == 0.5
    assert found.fake_accuracy == pytest.approx(1 / 3)
    assert found.balanced_accuracy == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found.accuracy == pytest.approx(2 / 5)
    assert (found.n_real, found.n_fake) == (2, 3)
    wrong = (1.0, -3.0, 0.0, -2.0, 0.5)  # how far each logit lies on the wrong side of 0
    assert found.loss == pytest.approx(sum(math.log1p(math.exp(one)) for one in wrong) / 5)


@given(scored())
def test_ranking_figures_are_those_of_scikit_learn(
    scores: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    labels, logits = scores
    found = summarize(labels, logits)
    if found.auc is not None:
        assert found.auc == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)
        assert found.ap == pytest.approx(average_precision_score(labels, logits), abs=1e-12)


def test_a_logit_of_zero_says_real() -> None:
    assert summarize(np.array([0]), np.array([0.0])).real_accuracy == 1.0


def test_equal_scores_are_a_coin_toss() -> None:
    assert summarize(np.array([0, 1, 0, 1]), np.zeros(4)).auc == 0.5


def test_one_class_alone_has_no_ranking_figures() -> None:
    found = summarize(np.array([1, 1]), np.array([1.0, -1.0]))
    assert (found.ap, found.auc, found.balanced_accuracy, found.real_accuracy) == (None, None, None, None)
    assert (found.accuracy, found.fake_accuracy) == (0.5, 0.5)


@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_images_changes_nothing(
    scores: tuple[NDArray[np.int64], NDArray[np.float64]], random: Random
) -> None:
    labels, logits = scores
    order = list(range(len(labels)))
    random.shuffle(order)
    assert summarize(labels, logits) == summarize(labels[order], logits[order])


@given(scored())
def test_ranking_figures_survive_a_monotone_map(
    scores: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    labels, logits = scores
    plain, mapped = summarize(labels, logits), summarize(labels, np.exp(logits) * 3 - 7)
    assert (plain.auc, plain.ap) == (mapped.auc, mapped.ap)


@given(scored())
def test_exchanging_the_classes_mirrors_the_auc(
    scores: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    labels, logits = scores
    plain, exchanged = summarize(labels, logits), summarize(1 - labels, logits)
    if plain.auc is not None:
        assert exchanged.auc == pytest.approx(1 - plain.auc)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="1 of 2 logits are not finite"):
        summarize(np.array([0, 1]), np.array([0.0, bad]))


def test_a_strange_label_is_refused() -> None:
    with pytest.raises(UserError, match=r"labels \[0, 2\]"):
        summarize(np.array([0, 2]), np.zeros(2))
