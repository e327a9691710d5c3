"""The figures of a set of scores that need no threshold, from its ROC curve.

With numpy alone: each validation of a training run takes its figures from here.

Shapes: N images, R weightings of them (see `train.evaluation.figures.counts`), K points of the ROC curve.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Counts of each weighting from the highest score on; a point for each value of the score."""

    tp_RK: Array
    """Weight of the fakes at or above each score; the last is that of all fakes."""
    all_RK: Array
    """The same for all images."""


def ranking_of(fake_N: NDArray[np.bool_], logits_N: NDArray[np.floating]) -> dict[str, float]:
    """The figures that need no threshold, each image counting once; NaN without both classes."""
    order_N, ends_K = ranked(logits_N)
    tp_K = np.cumsum(fake_N[order_N], dtype=np.float64)[ends_K]
    curve = Curve(tp_RK=tp_K[None], all_RK=(ends_K + 1).astype(np.float64)[None])
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: float(value_R[0]) for name, value_R in ranking(curve).items()}


def ranked(logits_N: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The images from the highest score on, and the places in this order where the curve has its points."""
    order_N = np.argsort(-logits_N, kind="stable")
    sorted_N = logits_N[order_N]
    # Images of one score can't be separated: a point of the curve lies behind the last of them.
    return order_N, np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)


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
