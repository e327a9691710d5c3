"""The figures of one set of scores, for any number of weightings of its images at once.

A bootstrap resample is a weighting: how often each photograph was drawn. So the images are sorted once, and
all resamples are cumulative sums and matrix products. With all weights 1 the figures equal scikit-learn's,
with others they equal scikit-learn's with ``sample_weight``; the tests compare them.

Shapes: N images, P photographs, R weightings, K points of the ROC curve, C columns of sums.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import Scores

Array = NDArray[np.float64]

ECE_BINS = 15
"""Bins of equal width of the probability of fake, as in Guo et al., ICML 2017."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Counts of each weighting from the highest score on; a point for each value of the score."""

    tp_RK: Array
    """Weight of the fakes at or above each score; the last is that of all fakes."""
    all_RK: Array
    """The same for all images."""


class Counter:
    """Computes the figures of a set of scores under weights.

    Args:
        scores: the images.
        decision: their threshold and temperature.
    """

    def __init__(self, scores: Scores, decision: Decision) -> None:
        fake_N = scores.labels_N == 1
        photograph_N = scores.photograph_numbers()
        order_N = np.argsort(-scores.logits_N, kind="stable")
        sorted_N = scores.logits_N[order_N]
        # Images of one score can't be separated: a point of the curve lies behind the last of them.
        self._ends_K = np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)
        self._photograph_N = photograph_N[order_N]
        self._fake_N = fake_N[order_N].astype(np.float64)
        columns_NC = _columns(fake_N, scores.logits_N, decision)
        self._columns_PC = np.zeros((photograph_N.max() + 1, columns_NC.shape[1]))
        np.add.at(self._columns_PC, photograph_N, columns_NC)

    def figures(self, weights_RP: Array) -> dict[str, Array]:
        """The figures by name, each (R,). A figure that needs a class without weight is NaN.

        Args:
            weights_RP: how often each photograph counts, in the order of `Scores.photograph_numbers`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return ranking(self._curve(weights_RP)) | _sums(weights_RP @ self._columns_PC)

    def _curve(self, weights_RP: Array) -> Curve:
        sorted_RN = np.take(weights_RP, self._photograph_N, axis=1)
        tp_RN = np.cumsum(sorted_RN * self._fake_N, axis=1)
        all_RN = np.cumsum(sorted_RN, axis=1, out=sorted_RN)
        if len(self._ends_K) < len(self._fake_N):
            tp_RN, all_RN = tp_RN[:, self._ends_K], all_RN[:, self._ends_K]
        return Curve(tp_RK=tp_RN, all_RK=all_RN)


def ranking(curve: Curve) -> dict[str, Array]:
    """The figures that need no threshold, from the ROC curve."""
    tp_RK, fp_RK = curve.tp_RK, curve.all_RK - curve.tp_RK
    fakes_R, reals_R = tp_RK[:, -1], fp_RK[:, -1]
    both_R = fakes_R * reals_R
    steps_RK = np.diff(tp_RK, prepend=0.0)
    # A fake beats the real images below its score, and half of those with its score.
    beaten_RK = fp_RK.copy()
    beaten_RK[:, 1:] += fp_RK[:, :-1]
    losses_R = np.einsum("rk,rk->r", steps_RK, beaten_RK) / 2
    precision_RK = np.divide(tp_RK, curve.all_RK, out=beaten_RK, where=curve.all_RK > 0)
    found = {
        "auc": 1 - losses_R / both_R,
        "ap": np.einsum("rk,rk->r", steps_RK, precision_RK) / fakes_R,
        "tpr_at_fpr_1": _tpr_at(0.01, tp_RK, fp_RK),
        "tpr_at_fpr_5": _tpr_at(0.05, tp_RK, fp_RK),
        "pd_at_far_10": _tpr_at(0.10, tp_RK, fp_RK),
        "eer": _equal_error_rate(tp_RK, fp_RK),
        "best_accuracy": (np.maximum((tp_RK - fp_RK).max(axis=1), 0) + reals_R) / (fakes_R + reals_R),
    }
    return {name: np.where(both_R > 0, value_R, np.nan) for name, value_R in found.items()}


def _tpr_at(rate: float, tp_RK: Array, fp_RK: Array) -> Array:
    """The share of fakes found at the lowest threshold whose false-positive rate is at most `rate`.

    Nothing is interpolated: between two scores there is no threshold that reaches another rate.
    """
    # The points of the curve, without the one of no alarm at all. 1e-9: .29 * 100 is 28.999... .
    reached_R = (fp_RK <= rate * fp_RK[:, -1:] + 1e-9).sum(axis=1)
    found_R = np.take_along_axis(tp_RK, np.maximum(reached_R - 1, 0)[:, None], axis=1)[:, 0]
    return np.where(reached_R > 0, found_R, 0.0) / tp_RK[:, -1]


def _equal_error_rate(tp_RK: Array, fp_RK: Array) -> Array:
    """Where the ROC curve, straight between its points, meets the line of equal error rates."""
    fakes_R1, reals_R1 = tp_RK[:, -1:], fp_RK[:, -1:]
    # False alarms at least misses: fp / reals >= 1 - tp / fakes.
    behind_R1 = (fp_RK * fakes_R1 + tp_RK * reals_R1 >= fakes_R1 * reals_R1).argmax(axis=1)[:, None]
    end = np.take_along_axis(fp_RK, behind_R1, axis=1) / reals_R1
    end_missed = 1 - np.take_along_axis(tp_RK, behind_R1, axis=1) / fakes_R1
    before_R1 = np.maximum(behind_R1 - 1, 0)
    has_point = behind_R1 > 0  # before the first one lies (0, 0): no alarm, all missed
    start = np.where(has_point, np.take_along_axis(fp_RK, before_R1, axis=1), 0.0) / reals_R1
    start_missed = 1 - np.where(has_point, np.take_along_axis(tp_RK, before_R1, axis=1), 0.0) / fakes_R1
    gap = start_missed - start
    met_R1 = start + gap / (gap + end - end_missed) * (end - start)
    return met_R1[:, 0]


def _columns(fake_N: NDArray[np.bool_], logits_N: Array, decision: Decision) -> Array:
    """What `_sums` needs the weighted sum of: class, right verdicts, losses, and the gap by bin."""
    called_fake_N = logits_N > decision.threshold
    scaled_N = logits_N / decision.temperature
    p_N = expit(scaled_N)
    nll_N = np.logaddexp(0.0, np.where(fake_N, -scaled_N, scaled_N))
    gap_NB = np.zeros((len(p_N), ECE_BINS))
    bin_N = np.minimum((p_N * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gap_NB[np.arange(len(p_N)), bin_N] = p_N - fake_N
    single = [~fake_N, fake_N, ~fake_N & ~called_fake_N, fake_N & called_fake_N, nll_N, (p_N - fake_N) ** 2]
    return np.column_stack([*single, gap_NB]).astype(np.float64)


def _sums(sums_RC: Array) -> dict[str, Array]:
    reals_R, fakes_R, real_right_R, fake_right_R, nll_R, brier_R = sums_RC[:, :6].T
    all_R, real_R, fake_R = reals_R + fakes_R, real_right_R / reals_R, fake_right_R / fakes_R
    return {
        "balanced_accuracy": (real_R + fake_R) / 2,
        "accuracy": (real_right_R + fake_right_R) / all_R,
        "real_accuracy": real_R,
        "fake_accuracy": fake_R,
        "nll": nll_R / all_R,
        "brier": brier_R / all_R,
        "ece": np.abs(sums_RC[:, 6:]).sum(axis=1) / all_R,
    }
