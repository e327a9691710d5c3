"""A shallow detector that sees the nuisance statistics alone, never a pixel.

Logistic regression, cross-validated by photograph: both images of a pair, and all tiles and
reconstructions of one photograph, are in the same fold. Otherwise the regression could know a
photograph by its numbers, and one half of a pair tells what the other is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.separation import LEAST_PHOTOGRAPHS, Numbers, Separation, area, right

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the detector reached on photographs that it had not seen."""

    area: Separation
    """Under the ROC curve."""
    accuracy: Separation
    """Balanced: there are as many fakes as real images."""
    weights: dict[str, float]
    """Of each standardised number in a fit to all pairs; above 0 where more of it speaks for fake."""


def probe(
    names: list[str], real_NF: Numbers, fake_NF: Numbers, photograph_N: NDArray[np.int64]
) -> Probe | None:
    """Fits and scores it.

    Args:
        names: of the F numbers.
        real_NF: (N, F) numbers of each pair's real image; NaN where unknown.
        fake_NF: (N, F) of its reconstruction.
        photograph_N: (N,) number of the photograph that each pair is of.

    Returns:
        None where there are too few photographs for the folds.
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
    right_N = ((np.sign(fake) + 1) / 2 + (1 - np.sign(real)) / 2) / 2
    weights = _fit(images_MF, label_M)[-1].coef_[0]
    return Probe(
        area=found,
        accuracy=right(right_N, photograph_N),
        weights=dict(zip(names, map(float, weights), strict=True)),
    )


def folds(photograph_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the fold of each pair, 0 <= fold < `FOLDS`; one photograph is in one fold."""
    _, inverse = np.unique(photograph_N, return_inverse=True)
    order = np.random.default_rng(0).permutation(int(inverse.max()) + 1)
    return np.asarray(order[inverse] % FOLDS, np.int64)


def _fit(images_MF: Numbers, label_M: NDArray[np.int64]):  # type: ignore[no-untyped-def]
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(images_MF, label_M)
