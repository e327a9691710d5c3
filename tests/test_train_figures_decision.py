"""Thresholds and temperatures: chosen as a loop over all of them would, and refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from figure_scores import drawn_scores, scores_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from recon.base.errors import UserError
from train.evaluation.figures.decision import Decision, choose_threshold, decide, fit_temperature
from train.evaluation.figures.scores import Scores

VALIDATION = "name,group,label,logit\na,g,0,-2\nb,g,0,1\nc,g,1,.5\nd,g,1,2\n"


@given(drawn_scores(), st.sampled_from([0.0, 0.01, 0.25, 0.29, 0.5, 0.9]))
def test_a_threshold_at_a_false_positive_rate_is_the_lowest_that_keeps_to_it(
    scores: Scores, rate: float
) -> None:
    threshold = choose_threshold(f"fpr={rate}", scores)
    reals = scores.logits_N[scores.labels_N == 0]
    assert (reals > threshold).mean() <= rate + 1e-12
    lower = [value for value in reals if value < threshold]
    assert all((reals > value).mean() > rate for value in lower)


def test_a_rate_that_allows_no_false_alarm_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    scores = scores_of([0] * 20, np.arange(20.0))
    assert choose_threshold("fpr=.05", scores) == 18
    assert choose_threshold("fpr=0", scores) == 19
    assert not caplog.records
    assert choose_threshold("fpr=.01", scores) == 19
    assert "fpr=0.01 allows no false alarm among 20 real images" in caplog.text
    assert "100 or more would be needed" in caplog.text


@given(drawn_scores())
def test_a_balanced_threshold_has_the_highest_balanced_accuracy(scores: Scores) -> None:
    if len(set(scores.logits_N)) == 1:
        with pytest.raises(UserError, match="all scores are equal"):
            choose_threshold("balanced", scores)
        return
    fake = scores.labels_N == 1

    def balanced(threshold: float) -> float:
        said = scores.logits_N > threshold
        return float(said[fake].mean() + (~said[~fake]).mean())

    found = balanced(choose_threshold("balanced", scores))
    values = np.unique(scores.logits_N)[:-1]  # above the last nothing is called fake
    assert found == pytest.approx(max(balanced(value) for value in values))


def test_a_balanced_threshold_lies_in_the_middle_of_a_gap_and_the_nearest_to_0() -> None:
    assert choose_threshold("balanced", scores_of([0, 1, 1], [-3.0, 1.0, 2.0])) == -1.0
    scores = scores_of([0, 1, 0, 1], [-5.0, -4.0, 1.0, 2.0])  # -4.5 and 1.5 are as good
    assert choose_threshold("balanced", scores) == 1.5


def test_the_temperature_is_that_of_a_logistic_regression_without_intercept() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 400)
    labels = (rng.uniform(size=400) < expit(logits / 2.5)).astype(int)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits[:, None], labels)
    found = fit_temperature(scores_of(labels, logits))
    assert found == pytest.approx(1 / fitted.coef_[0, 0], rel=1e-4)
    assert found == pytest.approx(2.5, rel=0.2)


def test_no_temperature_fits_scores_without_an_error_or_without_a_trace() -> None:
    with pytest.raises(UserError, match="separate the classes without an error"):
        fit_temperature(scores_of([0, 1], [-1.0, 1.0]))
    with pytest.raises(UserError, match="tell nothing about the classes"):
        fit_temperature(scores_of([0, 1], [1.0, -1.0]))
    with pytest.raises(UserError, match="needs both classes, and there are no fakes"):
        fit_temperature(scores_of([0, 0], [1.0, -1.0]))


def test_a_number_is_a_probability_after_the_temperature() -> None:
    found = decide("0.9", Decision(temperature=2.0))
    assert (found.temperature, found.threshold) == (2.0, pytest.approx(2 * np.log(9)))
    assert found.probability == pytest.approx(0.9)
    assert decide(0.5, Decision()).threshold == 0.0


@pytest.mark.parametrize(
    ("text", "threshold"),
    [("at fpr=.5", -2.0), ("fpr=0", 1.0), ("balanced", -0.75), ("at balanced", -0.75)],
)
def test_a_threshold_comes_from_another_evaluations_scores(
    tmp_path: Path, text: str, threshold: float
) -> None:
    (tmp_path / "scores.csv").write_text(VALIDATION)
    for place in (tmp_path, tmp_path / "scores.csv"):
        found = decide(f"from {place} {text}", Decision(temperature=3.0))
        assert (found.threshold, found.temperature) == (threshold, 3.0)
        assert found.origin == f"{text.removeprefix('at ')} in {place}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("half", "threshold=half: expected a probability between 0 and 1, 'from SCORES at fpr=.01'"),
        ("0", "threshold=0: expected a probability"),
        ("1.5", "threshold=1.5: expected a probability"),
        ("nan", "threshold=nan: expected a probability"),
        ("from gone at fpr=.01", "gone/scores.csv not found"),
        ("from PLACE at fpr=x", "fpr=x, expected a share of the real images"),
        ("from PLACE at fpr=1", "fpr=1, expected a share"),
        ("from FAKES at fpr=.1", "needs real images, and there are none"),
        ("from FAKES balanced", "needs both classes, and there are no real images"),
    ],
)
def test_a_threshold_that_can_not_be_had_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "scores.csv").write_text(VALIDATION)
    (tmp_path / "fakes.csv").write_text("name,group,label,logit\nc,g,1,.5\n")
    text = text.replace("PLACE", str(tmp_path)).replace("FAKES", str(tmp_path / "fakes.csv"))
    with pytest.raises(UserError) as caught:
        decide(text, Decision())
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_rule_lists_the_choices() -> None:
    for rule in ("best", "balanced=1"):
        with pytest.raises(UserError, match=r"expected fpr=SHARE .* or balanced"):
            choose_threshold(rule, scores_of([0, 1], [0.0, 1.0]))
