"""A simple detector that sees only the nuisance statistics, no pixels.

It is a logistic regression, cross-validated by photograph: both images of a pair, and all tiles and
reconstructions of one photograph, are in the same fold. Otherwise the regression could recognise a
photograph by its numbers, and the class of one image of a pair tells the class of the other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.judge.separation import LEAST_PHOTOGRAPHS, Numbers, Separation, area, right

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The detector's scores on photographs that it was not fitted to."""

    area: Separation
    """Area under the ROC curve."""
    accuracy: Separation
    """Balanced accuracy: there are as many fakes as real images."""
    weights: dict[str, float]
    """Weight of each standardised number in a fit to all pairs; above 0 if larger values mean fake."""


def probe(
    names: list[str], real_NF: Numbers, fake_NF: Numbers, photograph_N: NDArray[np.int64]
) -> Probe | None:
    """Fits the detector and scores it.

    Args:
        names: names of the F numbers.
        real_NF: (N, F) numbers of each pair's real image; NaN if unknown.
        fake_NF: (N, F) numbers of its reconstruction.
        photograph_N: (N,) number of each pair's photograph.

    Returns:
        None if there are too few photographs for the folds.
    """
    if len(np.unique(photograph_N)) < max(LEAST_PHOTOGRAPHS, 2 * FOLDS):
        return None
    pairs = len(real_NF)
    images_MF, label_M = np.concatenate([real_NF, fake_NF]), np.repeat([0, 1], pairs)
    fold_M = np.tile(folds(photograph_N), 2)
    logit_M = np.zeros(2 * pairs)
    for fold in range(FOLDS):
        kept_M = fold_M != fold
        model = _fit(images_MF[kept_M], label_M[kept_M])
        logit_M[~kept_M] = model.decision_function(images_MF[~kept_M])
    real, fake = logit_M[:pairs], logit_M[pairs:]
    found = area(real, fake, 0.0, photograph_N)
    assert found is not None
    # Mean over the two images of a pair; a logit of exactly 0 decides nothing and counts as half right.
    right_N = ((np.sign(fake) + 1) / 2 + (1 - np.sign(real)) / 2) / 2
    weights = _fit(images_MF, label_M)[-1].coef_[0]
    return Probe(
        area=found,
        accuracy=right(right_N, photograph_N),
        weights=dict(zip(names, map(float, weights), strict=True)),
    )


def folds(photograph_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) fold of each pair, 0 <= fold < `FOLDS`; all pairs of a photograph are in one fold."""
    _, inverse = np.unique(photograph_N, return_inverse=True)
    # A permutation, so that the folds do not follow the order of the dataset; a fixed seed, so that two
    # audits of one dataset agree.
    order = np.random.default_rng(0).permutation(int(inverse.max()) + 1)
    return np.asarray(order[inverse] % FOLDS, np.int64)


def _fit(images_MF: Numbers, label_M: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # keep_empty_features: a number that is unknown for all images must stay, or `weights` loses its names.
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(images_MF, label_M)
