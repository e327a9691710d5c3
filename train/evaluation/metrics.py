"""The metrics of a validation during training, as scikit-learn defines them: AP, AUC and accuracies.

Labels are 0 (real) and 1 (fake). A logit above 0, that is a probability above .5, means fake. What an
evaluation reports, with intervals and by label group, is in `train.evaluation.figures`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from train.evaluation.figures.curve import ranking_of

Labels = NDArray[np.integer]
Logits = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The metrics of a set of scores, in 0..1 but for the loss; None if there are no images for it."""

    ap: float | None
    """Average precision with fakes as positives; needs both classes."""
    auc: float | None
    """Area under the ROC curve; needs both classes."""
    balanced_accuracy: float | None
    """Mean of real and fake accuracy; needs both classes."""
    accuracy: float | None
    """Share of images that are classified correctly at probability .5."""
    real_accuracy: float | None
    """Share of real images whose logit is at most 0."""
    fake_accuracy: float | None
    """Share of fakes whose logit is above 0."""
    n_real: int
    """Number of real images."""
    n_fake: int
    """Number of fakes."""
    loss: float | None = None
    """Mean binary cross-entropy in nats."""


def summarize(labels_N: Labels, logits_N: Logits) -> Summary:
    """Computes the metrics of a set of images; their order does not matter.

    Args:
        labels_N: (N,) 0 for real, 1 for fake.
        logits_N: (N,) finite scores, above 0 for fake.

    Raises:
        UserError: a logit is not finite, or a label is neither 0 nor 1.
    """
    labels_N, logits_N = _checked(labels_N, logits_N)
    fake_N = labels_N == 1
    n_fake = int(fake_N.sum())
    n_real = len(labels_N) - n_fake
    right_N = (logits_N > 0) == fake_N
    real_accuracy, fake_accuracy = _share(right_N[~fake_N]), _share(right_N[fake_N])
    balanced = None
    if real_accuracy is not None and fake_accuracy is not None:
        balanced = (real_accuracy + fake_accuracy) / 2
    ranking = ranking_of(fake_N, logits_N) if n_real and n_fake else {"ap": None, "auc": None}
    return Summary(
        ap=ranking["ap"],
        auc=ranking["auc"],
        balanced_accuracy=balanced,
        accuracy=_share(right_N),
        real_accuracy=real_accuracy,
        fake_accuracy=fake_accuracy,
        n_real=n_real,
        n_fake=n_fake,
        loss=_loss(fake_N, logits_N),
    )


def _checked(labels_N: Labels, logits_N: Logits) -> tuple[Labels, Logits]:
    assert labels_N.shape == logits_N.shape, (labels_N.shape, logits_N.shape)
    assert labels_N.ndim == 1, labels_N.shape
    if not np.isin(labels_N, (0, 1)).all():
        raise UserError(f"labels {sorted(set(labels_N.tolist()))}, expected 0 (real) and 1 (fake)")
    bad = int((~np.isfinite(logits_N)).sum())
    if bad:
        raise UserError(f"{bad} of {len(logits_N)} logits are not finite; the model has diverged")
    return labels_N, logits_N


def _loss(fake_N: NDArray[np.bool_], logits_N: Logits) -> float | None:
    if not len(logits_N):
        return None
    # fsum rounds once, at the end, so that the order of the images does not matter.
    return math.fsum(np.logaddexp(0.0, np.where(fake_N, -logits_N, logits_N)).tolist()) / len(logits_N)


def _share(right_N: NDArray[np.bool_]) -> float | None:
    return float(right_N.mean()) if len(right_N) else None
