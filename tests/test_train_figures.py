"""Every figure of an evaluation, by hand on small cases and against scikit-learn on drawn ones."""

import numpy as np
import pytest
from figure_scores import drawn_scores, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.special import expit
from sklearn import metrics as sk

from recon.base.errors import UserError
from train.evaluation.figures.counts import ECE_BINS, Counter
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import FIGURES, by_group, figures_of, over_groups
from train.evaluation.figures.scores import OVERALL, SHARED, Scores
from train.evaluation.metrics import summarize

LABELS, LOGITS = [0, 0, 1, 1, 1], [-2.0, 0.5, -1.0, 3.0, 0.0]
PLAIN = Decision()


def expected_of(scores: Scores, weights_N: np.ndarray, decision: Decision) -> dict[str, float]:
    """The figures by scikit-learn and scipy, those that they lack by a loop."""
    y, p = scores.labels_N, expit(scores.logits_N / decision.temperature)
    said = scores.logits_N > decision.threshold
    fpr, tpr, _ = sk.roc_curve(y, scores.logits_N, sample_weight=weights_N, drop_intermediate=False)
    thresholds = [-np.inf, *scores.logits_N]
    right = [np.average((scores.logits_N > t) == y, weights=weights_N) for t in thresholds]
    bins = np.minimum((p * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(((p - y) * weights_N)[bins == one].sum()) for one in range(ECE_BINS)]
    return {
        "auc": sk.roc_auc_score(y, scores.logits_N, sample_weight=weights_N),
        "ap": sk.average_precision_score(y, scores.logits_N, sample_weight=weights_N),
        **{f"tpr_at_fpr_{rate}": tpr[fpr <= rate / 100 + 1e-9].max() for rate in (1, 5)},
        "pd_at_far_10": tpr[fpr <= 0.1 + 1e-9].max(),
        "eer": brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1) if len(set(fpr)) == len(fpr) else None,
        "balanced_accuracy": sk.balanced_accuracy_score(y, said, sample_weight=weights_N),
        "accuracy": sk.accuracy_score(y, said, sample_weight=weights_N),
        "real_accuracy": sk.recall_score(y, said, pos_label=0, sample_weight=weights_N),
        "fake_accuracy": sk.recall_score(y, said, pos_label=1, sample_weight=weights_N),
        "best_accuracy": max(right),
        "nll": sk.log_loss(y, p, sample_weight=weights_N),
        "brier": sk.brier_score_loss(y, p, sample_weight=weights_N),
        "ece": sum(gaps) / weights_N.sum(),
    }


@settings(max_examples=40)  # scikit-learn takes some 30 ms for each
@given(
    drawn_scores(),
    st.sampled_from([PLAIN, Decision(temperature=2.5, threshold=0.25)]),
    st.integers(0, 1000),
)
def test_every_figure_under_weights_equals_scikit_learns(
    scores: Scores, decision: Decision, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights_2N = np.stack([np.ones(len(scores.names)), rng.integers(1, 4, len(scores.names))])
    found = Counter(scores, decision).figures(weights_2N.astype(float))
    assert set(found) == set(FIGURES)
    for row, weights_N in enumerate(weights_2N):
        for name, value in expected_of(scores, weights_N, decision).items():
            if value is not None:
                assert found[name][row] == pytest.approx(value, abs=1e-9), name


def test_figures_equal_those_counted_by_hand() -> None:
    found = figures_of(scores_of(LABELS, LOGITS), PLAIN)
    # fakes (-1, 3, 0) beat reals (-2, .5) in 1 + 2 + 1 of 6 comparisons
    assert found.auc == pytest.approx(4 / 6)
    # ranked 3 F, .5 R, 0 F, -1 F, -2 R: precision 1, 2/3, 3/4 at the three fakes
    assert found.ap == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert (found.real_accuracy, found.fake_accuracy) == (0.5, pytest.approx(1 / 3))
    assert found.balanced_accuracy == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found.accuracy == pytest.approx(2 / 5)
    # no false alarm may be given of two reals: only the fake at 3 lies above both
    assert (found.tpr_at_fpr_1, found.tpr_at_fpr_5, found.pd_at_far_10) == (pytest.approx(1 / 3),) * 3
    # ROC points (0, 0), (0, 1/3), (1/2, 1/3), (1/2, 2/3), (1/2, 1): x = 1 - y is met at x = 1/2
    assert found.eer == pytest.approx(1 / 2)
    # above -2: all fakes right, one of two reals
    assert found.best_accuracy == pytest.approx(4 / 5)
    losses = [np.log1p(np.exp(x)) for x in (-2.0, 0.5, 1.0, -3.0, 0.0)]
    assert found.nll == pytest.approx(np.mean(losses))
    p = 1 / (1 + np.exp(-np.array(LOGITS)))
    assert found.brier == pytest.approx(np.mean((p - LABELS) ** 2))
    # bins of 1/15: .119 in 1, .622 in 9, .269 in 4, .953 in 14, .5 in 7: no two share one
    assert found.ece == pytest.approx(np.abs(p - LABELS).mean())
    assert (found.n_real, found.n_fake, found.missing) == (2, 3, {})


def test_probabilities_share_a_bin_of_the_calibration_error() -> None:
    scores = scores_of([0, 1, 1, 0], [0.0, 0.0, 9.0, 9.0])
    p = expit(9.0)
    # in the bin of .5: |2 * .5 - 1| = 0; in the last bin: |2 p - 1|
    assert figures_of(scores, PLAIN).ece == pytest.approx((2 * p - 1) / 4)


def test_false_alarms_are_counted_not_interpolated() -> None:
    """Of 100 reals 1 % is one: the threshold lies below the highest real and above the second."""
    reals, fakes = np.arange(100.0), [99.5, 98.5, 98.5, 97.5, 94.5]
    found = figures_of(scores_of([0] * 100 + [1] * 5, [*reals, *fakes]), PLAIN)
    assert (found.tpr_at_fpr_1, found.tpr_at_fpr_5) == (3 / 5, 5 / 5)
    tied = figures_of(scores_of([0] * 100 + [1] * 2, [*np.minimum(reals, 97), 97.0, 98.0]), PLAIN)
    assert (tied.tpr_at_fpr_1, tied.tpr_at_fpr_5) == (0.5, 1.0)  # three reals share the second score


def test_equal_scores_are_a_coin_toss() -> None:
    found = figures_of(scores_of([0, 1, 0, 1], np.zeros(4)), PLAIN)
    assert (found.auc, found.ap, found.eer, found.tpr_at_fpr_5, found.best_accuracy) == (
        0.5,
        0.5,
        0.5,
        0,
        0.5,
    )
    assert found.nll == pytest.approx(np.log(2))


def test_a_temperature_changes_probabilities_and_a_threshold_verdicts_alone() -> None:
    scores = scores_of(LABELS, LOGITS)
    plain, warm = figures_of(scores, PLAIN), figures_of(scores, Decision(temperature=3.0, threshold=-1.5))
    assert (warm.auc, warm.ap, warm.eer, warm.best_accuracy) == (
        plain.auc, plain.ap, plain.eer, plain.best_accuracy,
    )  # fmt: skip
    assert warm.nll == pytest.approx(figures_of(scores_of(LABELS, np.array(LOGITS) / 3), PLAIN).nll)
    assert (warm.fake_accuracy, warm.real_accuracy) == (1.0, 0.5)


def test_huge_logits_have_a_finite_loss() -> None:
    found = figures_of(scores_of([0, 1], [1e4, -1e4]), PLAIN)
    assert (found.nll, found.brier) == (pytest.approx(1e4), pytest.approx(1.0))


def test_one_class_alone_has_dashes_with_a_reason() -> None:
    fakes = figures_of(scores_of([1, 1], [1.0, -1.0]), PLAIN)
    lacking = {name for name, one in FIGURES.items() if one.needs in ("both", "real")}
    assert {name for name in FIGURES if getattr(fakes, name) is None} == lacking
    assert {name: fakes.missing[name] for name in lacking} == dict.fromkeys(lacking, "no real images")
    assert (fakes.accuracy, fakes.fake_accuracy) == (0.5, 0.5)
    reals = figures_of(scores_of([0], [1.0]), PLAIN)
    assert reals.missing["auc"] == "no fakes"
    assert (reals.auc, reals.real_accuracy) == (None, 0.0)


@given(drawn_scores(both=False))
def test_a_validations_metrics_are_those_of_an_evaluation(scores: Scores) -> None:
    summary, found = summarize(scores.labels_N, scores.logits_N), figures_of(scores, PLAIN)
    for name in ("auc", "ap", "balanced_accuracy", "accuracy", "real_accuracy", "fake_accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(summary, name))


@given(drawn_scores(both=False), st.randoms(use_true_random=False))
def test_the_order_of_images_changes_nothing(scores: Scores, random: object) -> None:
    order = list(range(len(scores.names)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = figures_of(scores, PLAIN), figures_of(scores.chosen(np.array(order)), PLAIN)
    for name in FIGURES:
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name


def test_shared_reals_stand_against_every_group_and_count_once_overall() -> None:
    rows = by_group(scores_of(LABELS, LOGITS, [SHARED, SHARED, "b", "a", "a"]), PLAIN)
    assert list(rows) == ["a", "b", OVERALL]
    assert [(row.n_real, row.n_fake) for row in rows.values()] == [(2, 2), (2, 1), (2, 3)]
    assert rows["b"].auc == 0.5


def test_over_groups_each_group_counts_once_and_the_worst_has_a_name() -> None:
    labels, logits = [0, 1, 0, 1, 1, 0, 1], [0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    rows = by_group(scores_of(labels, logits, ["x", "x", "y", "y", "y", "z", "z"]), PLAIN)
    over = over_groups(rows)  # AUC: x 1, y .75, z 0
    assert over.mean["auc"] == pytest.approx(1.75 / 3)
    assert over.deviation["auc"] == pytest.approx(np.std([1, 0.75, 0], ddof=1))
    assert over.worst["auc"] == ("z", 0.0)
    losses = {name: rows[name].nll for name in "xyz"}
    assert over.worst["nll"] == (max(losses, key=lambda name: losses[name] or 0), max(losses.values()))


def test_a_figure_that_some_groups_lack_is_averaged_over_the_others() -> None:
    over = over_groups(by_group(scores_of([0, 1, 1], [0.0, 1.0, -1.0], ["a", "a", "b"]), PLAIN))
    assert (over.mean["auc"], over.worst["auc"], "auc" in over.deviation) == (1.0, ("a", 1.0), False)
    assert over.mean["fake_accuracy"] == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="1 of 2 logits are not finite"):
        scores_of([0, 1], [0.0, bad])


def test_a_strange_label_and_no_score_are_refused() -> None:
    with pytest.raises(UserError, match=r"labels \[0, 2\]"):
        scores_of([0, 2], [0.0, 0.0])
    with pytest.raises(UserError, match="there are no scores"):
        scores_of([], [])
