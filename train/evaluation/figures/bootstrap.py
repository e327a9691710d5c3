"""Draws photographs with replacement, many times at once.

An image and all that was made from it are drawn together, because their scores depend on each other.
(`scipy.stats.bootstrap` draws single observations.) Photographs of one kind (with a real image and fakes,
with real images alone, with fakes alone) are drawn among each other, so every resample has both classes.

Shapes: N images, P photographs, R resamples, K photographs of a kind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.base.options import at_least_one, not_negative
from train.evaluation.figures.scores import Scores

LEVEL = 0.95
"""The share of sets whose interval should hold the true value."""
_AT_ONCE = 1 << 17  # images in the resamples of a part; their 1 MB stay in the processor's cache
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How the intervals are computed."""

    resamples: int = 1000
    """Number of resamples."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least_one(self, "resamples")
        not_negative(self, "seed")

    def weights(self, scores: Scores) -> Iterator[NDArray[np.float64]]:
        """Yields how often each resample holds each photograph, (R, P), in parts; their R sum to `resamples`.

        The draws depend on the seed, the photographs and their classes, but not on the order of the images.
        """
        kinds = _kinds(scores)
        rng = np.random.default_rng(self.seed)
        step = max(1, _AT_ONCE // len(scores.names))
        for first in range(0, self.resamples, step):
            count = min(step, self.resamples - first)
            times_RP = np.empty((count, sum(map(len, kinds))))
            for kind_K in kinds:
                times_RP[:, kind_K] = _times(rng, count, len(kind_K))
            yield times_RP


def intervals(drawn: Mapping[str, NDArray[np.float64]]) -> dict[str, Interval]:
    """The middle 95 % of each figure's values in the resamples.

    Args:
        drawn: (R,) values by name; a figure with a NaN among them is left out.
    """
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    # weibull: a share p lies below place p * (R + 1); other methods give narrow intervals for few resamples.
    found = {name: np.quantile(values_R, ends, method="weibull") for name, values_R in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in found.items() if np.isfinite(low + high)}


def photographs_of(scores: Scores, label: int) -> int:
    """The number of photographs that have images of a class."""
    return len(np.unique(scores.photograph_numbers()[scores.labels_N == label]))


def _times(rng: np.random.Generator, resamples: int, count: int) -> NDArray[np.int64]:
    """(R, K): how often each of K photographs was drawn, if K are drawn with replacement."""
    drawn_RK = rng.integers(0, count, (resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(drawn_RK.ravel(), minlength=resamples * count).reshape(resamples, count)


def _kinds(scores: Scores) -> list[NDArray[np.int64]]:
    """The numbers of the photographs of each kind."""
    photograph_N = scores.photograph_numbers()
    kind_P = np.zeros(photograph_N.max() + 1, dtype=np.int64)
    for label, bit in ((0, 1), (1, 2)):
        kind_P[photograph_N[scores.labels_N == label]] |= bit
    return [np.flatnonzero(kind_P == kind) for kind in np.unique(kind_P)]
