"""The difference of two AUCs on the same images, after DeLong.

Neither scikit-learn nor scipy has it. Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), with
the ranks of Sun and Xu, IEEE Signal Processing Letters 21 (2014). It takes all images for independent. The
two of a pair are not, so the bootstrap by photograph is the better judge there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of two AUCs."""

    value: float
    """AUC of the second detector less that of the first."""
    error: float
    """Its standard error."""

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval, by the normal distribution."""
        reach = float(norm.ppf(0.975)) * self.error
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float | None:
        """Two-sided p value of no difference; None if the standard error is 0."""
        return float(2 * norm.sf(abs(self.value) / self.error)) if self.error else None


def difference_of_aucs(labels_N: NDArray[np.integer], first_N: Array, second_N: Array) -> Difference:
    """DeLong's estimate for two detectors that scored the same images.

    Args:
        labels_N: 0 real, 1 fake; at least two of each class.
        first_N: scores of the first detector.
        second_N: scores of the second.
    """
    reals, fakes = int((labels_N == 0).sum()), int((labels_N == 1).sum())
    assert min(reals, fakes) >= 2, (reals, fakes)
    (first_F, first_R), (second_F, second_R) = _parts(labels_N, first_N), _parts(labels_N, second_N)
    variance = np.cov(first_F, second_F) / fakes + np.cov(first_R, second_R) / reals
    spread = variance[0, 0] + variance[1, 1] - 2 * variance[0, 1]
    # Rounding leaves some 1e-18 where the two rank alike.
    error = float(np.sqrt(spread)) if spread > 1e-15 else 0.0
    return Difference(value=float(second_F.mean() - first_F.mean()), error=error)


def _parts(labels_N: NDArray[np.integer], scores_N: Array) -> tuple[Array, Array]:
    """The share of real images below each fake, and of fakes above each real image; ties count half."""
    fake_F, real_R = scores_N[labels_N == 1], scores_N[labels_N == 0]
    ranks_N = rankdata(np.concatenate([fake_F, real_R]))
    below_F = (ranks_N[: len(fake_F)] - rankdata(fake_F)) / len(real_R)
    above_R = 1 - (ranks_N[len(fake_F) :] - rankdata(real_R)) / len(fake_F)
    return below_F, above_R
