"""How well a number tells the two classes apart, with an interval that knows what belongs together.

Several pairs may be of one photograph (its tiles, its several reconstructions). They say nearly the
same, so every interval counts photographs, never pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LEAST_PHOTOGRAPHS = 8
"""With fewer no interval is narrow enough to say anything."""

_Z = 1.96  # of 95 %
_PRIOR = 4  # made-up photographs, half of each class: agreement of a few proves little (Agresti and Coull)


@dataclass(frozen=True, kw_only=True)
class Separation:
    """A share of decisions that come out right, and its 95 % interval; .5 is chance, 1 certainty."""

    value: float
    low: float
    high: float


def paired(
    difference_N: Numbers, step: float | Numbers, photograph_N: NDArray[np.int64]
) -> Separation | None:
    """How often the sign of fake - real tells which is which, where it exceeds `step`.

    A pair within the step decides nothing and counts as half right. Noise that goes both ways
    cancels; what is left is a shift that pairs share.

    Args:
        difference_N: (N,) fake - real; NaN where unknown.
        step: the largest difference that counts for nothing; (N,) where pairs differ in it.
        photograph_N: (N,) number of the photograph that each pair is of.

    Returns:
        None where fewer than `LEAST_PHOTOGRAPHS` are known.
    """
    known_N = ~np.isnan(difference_N)
    sign_N = np.sign(difference_N) * (np.abs(difference_N) > step)
    share_K = _by_photograph((sign_N[known_N] + 1) / 2, photograph_N[known_N])
    if len(share_K) < LEAST_PHOTOGRAPHS:
        return None
    if share_K.mean() < 0.5:
        share_K = 1 - share_K
    value = float(share_K.mean())
    padded = np.concatenate([share_K, np.repeat([0.0, 1.0], _PRIOR // 2)])
    middle, half = float(padded.mean()), _Z * float(padded.std() / np.sqrt(len(padded)))
    return _limited(value, min(value, middle - half), max(value, middle + half))


def spread(difference_N: Numbers) -> float:
    """Standard deviation of the most alike half of the differences, were they Gaussian.

    Of the half, so that a mistake in some of the pairs does not hide itself.
    """
    ranked = np.sort(difference_N[~np.isnan(difference_N)])
    half = len(ranked) // 2
    if half < 2:
        return 0.0
    return float((ranked[half - 1 :] - ranked[: len(ranked) - half + 1]).min() / 1.349)


def unpaired(
    real_N: Numbers, fake_N: Numbers, step: float, photograph_N: NDArray[np.int64]
) -> Separation | None:
    """The area under the ROC curve, in whichever direction is above .5, of a number of single images.

    See `area`.
    """
    found = area(real_N, fake_N, step, photograph_N)
    if found is None or found.value >= 0.5:
        return found
    return Separation(value=1 - found.value, low=1 - found.high, high=1 - found.low)


def area(real_N: Numbers, fake_N: Numbers, step: float, photograph_N: NDArray[np.int64]) -> Separation | None:
    """The area under the ROC curve where more of a number speaks for fake; within `step` is a tie.

    Its interval follows from the share of the other class that each image beats (DeLong et al.
    1988), summed by photograph: so the likeness of the two images of a pair counts.

    Args:
        real_N: (N,) the number of each pair's real image; NaN where unknown.
        fake_N: (N,) of its reconstruction.
        step: the largest difference that counts for nothing.
        photograph_N: (N,) number of the photograph that each pair is of.

    Returns:
        None where fewer than `LEAST_PHOTOGRAPHS` are known.
    """
    known_N = ~np.isnan(real_N) & ~np.isnan(fake_N)
    real, fake, photograph = real_N[known_N], fake_N[known_N], photograph_N[known_N]
    if len(np.unique(photograph)) < LEAST_PHOTOGRAPHS:
        return None
    return right((_share_below(real, fake, step) + 1 - _share_below(fake, real, step)) / 2, photograph, 2.0)


def right(right_N: Numbers, photograph_N: NDArray[np.int64], images: float = 1.0) -> Separation:
    """The mean of what the pairs decide right, 0..1 each.

    Args:
        right_N: (N,) one share a pair.
        photograph_N: (N,) number of the photograph that each pair is of.
        images: by how much a pair moves the mean, relative to one of N independent shares.
    """
    _, inverse = np.unique(photograph_N, return_inverse=True)
    value = float(right_N.mean())
    influence_K = np.bincount(inverse, images * (right_N - value))
    half = _Z * float(np.sqrt((influence_K**2).sum())) / len(right_N)
    return _limited(value, value - half, value + half)


def photographs(names: list[str], hashes: list[bytes]) -> NDArray[np.int64]:
    """Numbers the photographs: pairs share one where name or pixels of the real image are equal."""
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


def _share_below(others: Numbers, values: Numbers, step: float) -> Numbers:
    """For each value the share of `others` below it, those within `step` counting half."""
    ranked = np.sort(others)
    below, up_to = (
        np.searchsorted(ranked, values - step, "left"),
        np.searchsorted(ranked, values + step, "right"),
    )
    return (below + up_to) / (2 * len(others))


def _limited(value: float, low: float, high: float) -> Separation:
    return Separation(value=value, low=max(0.0, low), high=min(1.0, high))
