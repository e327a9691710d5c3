"""The figures of one set of scores, for any number of weightings of its images at once.

A bootstrap resample is a weighting: how often each photograph was drawn. So the images are sorted once, and
all resamples are cumulative sums and matrix products. With all weights 1 the figures equal scikit-learn's,
with others they equal scikit-learn's with ``sample_weight``; the tests compare them.

Shapes: N images, P photographs, R weightings, C columns of sums.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from train.evaluation.figures.curve import Curve, ranked, ranking
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import Scores

Array = NDArray[np.float64]

ECE_BINS = 15
"""Bins of equal width of the probability of fake, as in Guo et al., ICML 2017."""


class Counter:
    """Computes the figures of a set of scores under weights.

    Args:
        scores: the images.
        decision: their threshold and temperature.
    """

    def __init__(self, scores: Scores, decision: Decision) -> None:
        fake_N = scores.labels_N == 1
        photograph_N = scores.photograph_numbers()
        order_N, self._ends_K = ranked(scores.logits_N)
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
