"""How well a number separates the two classes, with a confidence interval over photographs.

Several pairs may come from one photograph (its tiles, its several reconstructions). They say nearly the
same, so every interval treats the photograph as the unit, never the pair.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LEAST_PHOTOGRAPHS = 8
"""With fewer photographs no interval is narrow enough to say anything."""

_Z = 1.96  # standard errors on each side of a 95 % interval
_PRIOR = 4  # made-up photographs, half right, half wrong: agreement of few proves little (Agresti and Coull)


@dataclass(frozen=True, kw_only=True)
class Separation:
    """A share of right decisions and its 95 % interval; .5 is chance, 1 is certainty."""

    value: float
    low: float
    high: float


def paired(
    difference_N: Numbers, step: float | Numbers, photograph_N: NDArray[np.int64], *, either: bool = True
) -> Separation | None:
    """How often the sign of fake - real tells which image is the fake, if the difference exceeds `step`.

    A pair within the step decides nothing and counts as half right. Noise in both directions cancels
    out; a shift that the pairs share remains.

    Args:
        difference_N: (N,) fake - real; NaN if unknown.
        step: the largest difference that is ignored; (N,) if it differs between pairs.
        photograph_N: (N,) number of each pair's photograph.
        either: whether a smaller value may mean fake as well as a larger one.

    Returns:
        None if fewer than `LEAST_PHOTOGRAPHS` photographs have a known difference.
    """
    known_N = ~np.isnan(difference_N)
    sign_N = np.sign(difference_N) * (np.abs(difference_N) > step)
    share_K = _by_photograph((sign_N[known_N] + 1) / 2, photograph_N[known_N])
    if len(share_K) < LEAST_PHOTOGRAPHS:
        return None
    if either and share_K.mean() < 0.5:  # a detector may as well learn that the fake has less of it
        share_K = 1 - share_K
    return _of_shares(share_K)


def smallest_share(photographs: int, bound: float) -> float | None:
    """The smallest share of the pairs in which a difference must show to be found by `paired`.

    Returns:
        None if even a difference in all pairs of so few photographs does not.
    """
    if photographs < LEAST_PHOTOGRAPHS:
        return None
    for count in range(photographs + 1):
        if _of_shares(np.repeat([1.0, 0.5], [count, photographs - count])).low > bound:
            return count / photographs
    return None


def _of_shares(share_K: Numbers) -> Separation:
    """The mean of the photographs' shares of right decisions, and its interval."""
    value = float(share_K.mean())
    padded = np.concatenate([share_K, np.repeat([0.0, 1.0], _PRIOR // 2)])
    middle, half = float(padded.mean()), _Z * float(padded.std() / np.sqrt(len(padded)))
    return _limited(value, min(value, middle - half), max(value, middle + half))


def spread(difference_N: Numbers) -> float:
    """Estimates the standard deviation from the half of the differences that lie closest together.

    Only from this half: a mistake in some of the pairs would widen the spread and so hide itself.
    """
    ranked = np.sort(difference_N[~np.isnan(difference_N)])
    half = len(ranked) // 2
    if half < 2:
        return 0.0
    # Half of a Gaussian lies within 1.349 standard deviations (its interquartile range).
    return float((ranked[half - 1 :] - ranked[: len(ranked) - half + 1]).min() / 1.349)


def unpaired(
    real_N: Numbers, fake_N: Numbers, step: float, photograph_N: NDArray[np.int64]
) -> Separation | None:
    """The area under the ROC curve of a number of single images, or 1 minus it if it is below .5.

    See `area`.
    """
    found = area(real_N, fake_N, step, photograph_N)
    if found is None or found.value >= 0.5:
        return found
    return Separation(value=1 - found.value, low=1 - found.high, high=1 - found.low)


def area(real_N: Numbers, fake_N: Numbers, step: float, photograph_N: NDArray[np.int64]) -> Separation | None:
    """The area under the ROC curve if larger values mean fake; values within `step` count as a tie.

    Its interval follows from the share of the other class that each image exceeds (DeLong et al. 1988),
    summed by photograph, so it takes into account that the two images of a pair resemble each other.

    Args:
        real_N: (N,) the number of each pair's real image; NaN if unknown.
        fake_N: (N,) the number of its reconstruction.
        step: the largest difference that is ignored.
        photograph_N: (N,) number of each pair's photograph.

    Returns:
        None if fewer than `LEAST_PHOTOGRAPHS` photographs have known numbers.
    """
    known_N = ~np.isnan(real_N) & ~np.isnan(fake_N)
    real, fake, photograph = real_N[known_N], fake_N[known_N], photograph_N[known_N]
    if len(np.unique(photograph)) < LEAST_PHOTOGRAPHS:
        return None
    # 2.0, because the area is a mean over the reals and a mean over the fakes: a pair moves both.
    return right((share_below(real, fake, step) + 1 - share_below(fake, real, step)) / 2, photograph, 2.0)


def right(right_N: Numbers, photograph_N: NDArray[np.int64], images: float = 1.0) -> Separation:
    """The mean share of right decisions and its interval.

    Args:
        right_N: (N,) share of right decisions of each pair, 0..1.
        photograph_N: (N,) number of each pair's photograph.
        images: how much a pair moves the mean, relative to one of N independent shares.
    """
    _, inverse = np.unique(photograph_N, return_inverse=True)
    value = float(right_N.mean())
    # Summed by photograph before squaring: pairs of one photograph err together.
    influence_K = np.bincount(inverse, images * (right_N - value))
    half = _Z * float(np.sqrt((influence_K**2).sum())) / len(right_N)
    return _limited(value, value - half, value + half)


def apart(
    below_N: Numbers, photograph_N: NDArray[np.int64], above_M: Numbers, photograph_M: NDArray[np.int64]
) -> Separation:
    """The area under the ROC curve of two samples without photographs in common, and its interval.

    Args:
        below_N: (N,) for each image of the first sample the share of the second above it.
        photograph_N: (N,) number of its photograph.
        above_M: (M,) for each image of the second sample the share of the first below it.
        photograph_M: (M,) number of its photograph.
    """
    first, second = right(below_N, photograph_N), right(above_M, photograph_M)
    half = float(np.hypot(first.value - first.low, second.value - second.low))
    return _limited(second.value, second.value - half, second.value + half)


def share_below(others: Numbers, values: Numbers, step: float) -> Numbers:
    """For each value the share of `others` below it, 0..1; those within `step` count half."""
    ranked = np.sort(others)
    below, up_to = (
        np.searchsorted(ranked, values - step, "left"),
        np.searchsorted(ranked, values + step, "right"),
    )
    return (below + up_to) / (2 * len(others))


def photographs(names: list[str], hashes: list[bytes]) -> NDArray[np.int64]:
    """Numbers the photographs: two pairs share a photograph if their names or real pixels are equal."""
    # A union-find: equal names and equal pixels can chain many pairs together.
    parent = list(range(len(names)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    first: dict[object, int] = {}
    for number, (name, pixels) in enumerate(zip(names, hashes, strict=True)):
        for label in (name, pixels):
            parent[root(number)] = root(first.setdefault(label, number))
    return np.array([root(number) for number in range(len(names))], np.int64)


def _by_photograph(value_N: Numbers, photograph_N: NDArray[np.int64]) -> Numbers:
    """(K,) mean of each photograph's pairs."""
    _, inverse = np.unique(photograph_N, return_inverse=True)
    return np.bincount(inverse, value_N) / np.bincount(inverse)


def _limited(value: float, low: float, high: float) -> Separation:
    return Separation(value=value, low=max(0.0, low), high=min(1.0, high))
