"""What the report draws is what the figures count: areas, gaps and shares are theirs."""

from typing import Any

import numpy as np
import pytest
from figure_scores import drawn_scores, scores_of
from hypothesis import given, settings
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import figures_of
from train.evaluation.figures.scores import Scores
from train.reports.plots import bins_of, draw_histogram, draw_reliability, draw_roc

DECISION = Decision(temperature=1.7, threshold=0.4)


@pytest.fixture(scope="module")
def figure() -> Figure:
    return Figure()


def fresh(figure: Figure) -> Any:
    figure.clear()
    return figure.add_subplot()


@settings(max_examples=8)
@given(drawn_scores())
def test_the_area_below_the_roc_is_the_auc(figure: Figure, scores: Scores) -> None:
    axes = fresh(figure)
    draw_roc(axes, [scores])
    curve = axes.lines[-1]
    area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
    assert area == pytest.approx(roc_auc_score(scores.labels_N, scores.logits_N))


@settings(max_examples=8)
@given(drawn_scores())
def test_the_gaps_of_the_reliability_weighted_by_its_bars_are_the_ece(figure: Figure, scores: Scores) -> None:
    axes = fresh(figure)
    draw_reliability(axes, scores, DECISION)
    gaps = np.abs(np.subtract(*axes.lines[-1].get_data()))
    heights = np.array([bar.get_height() for bar in axes.patches])
    weights = heights[heights > 0] / heights.sum()
    assert (gaps * weights).sum() == pytest.approx(figures_of(scores, DECISION).ece)


@settings(max_examples=8)
@given(drawn_scores())
def test_the_bars_of_each_class_sum_to_one(figure: Figure, scores: Scores) -> None:
    axes = fresh(figure)
    bins = bins_of(scores.logits_N, DECISION.threshold)
    draw_histogram(axes, scores, DECISION, bins)
    heights = np.array([bar.get_height() for bar in axes.patches]).reshape(2, len(bins) - 1)
    assert heights.sum(axis=1) == pytest.approx([1, 1])
    assert axes.lines[-1].get_xdata() == [DECISION.threshold] * 2


@pytest.mark.parametrize("score", [0.4, 3.0, -900.0, 1e17])
def test_equal_scores_are_one_narrow_bar_that_can_be_seen(figure: Figure, score: float) -> None:
    axes = fresh(figure)
    scores = scores_of([0, 1], [score, score])
    draw_histogram(axes, scores, DECISION, bins_of(scores.logits_N, DECISION.threshold))
    bars = [bar for bar in axes.patches if bar.get_height()]
    assert [bar.get_height() for bar in bars] == [1, 1]
    low, high = axes.get_xlim()
    for bar in bars:
        assert low <= bar.get_x() <= score <= bar.get_x() + bar.get_width() <= high
        assert 0.01 < bar.get_width() / (high - low) < 0.05
