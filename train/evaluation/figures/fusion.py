"""One score from those of several detectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from recon.base.errors import UserError
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import Scores

Array = NDArray[np.float64]
_NEAREST = 1e-16  # probabilities of 0 and 1 have no finite logit


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A detector's scores of a set of images, with its threshold and temperature."""

    name: str
    """For people."""
    scores: Scores
    """Of the images."""
    decision: Decision
    """Of the detector."""


def _soft_vote(logits_DN: Array) -> Array:
    p_N = expit(logits_DN).mean(axis=0)
    fused_N: Array = logit(np.clip(p_N, _NEAREST, 1 - _NEAREST))
    return fused_N


FUSIONS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda logits_DN: logits_DN.mean(axis=0),
    "max": lambda logits_DN: logits_DN.max(axis=0),
    "vote": _soft_vote,
}
"""How the logits of D detectors, (D, N), after their temperatures, become one: ``mean`` and ``max`` of the
logits, ``vote`` the mean of the probabilities, as a logit."""


def fuse(detected: Sequence[Detected], how: str) -> Detected:
    """Fuses the scores of several detectors for the same images in the same order.

    The threshold is the same function of the detectors' thresholds, the temperature is 1.

    Args:
        detected: see `aligned`.
        how: a name in `FUSIONS`.
    """
    fused = FUSIONS[how]
    logits_DN = np.stack([one.scores.logits_N / one.decision.temperature for one in detected])
    at_D1 = np.array([[one.decision.threshold / one.decision.temperature] for one in detected])
    decision = Decision(threshold=float(fused(at_D1)[0]), origin=f"{how} of the thresholds")
    scores = replace(detected[0].scores, logits_N=fused(logits_DN))
    return Detected(name=f"{how} of all", scores=scores, decision=decision)


def aligned(detected: Sequence[Detected]) -> list[Detected]:
    """Brings the images of all detectors into the order of the first.

    Raises:
        UserError: they scored different images, or gave an image different labels.
    """
    first, *others = detected
    return [first, *(_as(first, other) for other in others)]


def _as(first: Detected, other: Detected) -> Detected:
    keys, found = _keys(first.scores), _keys(other.scores)
    places = {key: place for place, key in enumerate(found)}
    for one, whole in ((other, first), (first, other)):
        _refuse_lack(one, whole)
    scores = other.scores.chosen(np.array([places[key] for key in keys]))
    if differing := np.flatnonzero(scores.labels_N != first.scores.labels_N).tolist():
        raise UserError(
            f"{first.name} and {other.name} give {len(differing)} images different labels, such as "
            f"{keys[differing[0]][0]!r}"
        )
    return replace(other, scores=scores)


def _refuse_lack(one: Detected, whole: Detected) -> None:
    if lacking := set(_keys(whole.scores)) - set(_keys(one.scores)):
        name, group = min(lacking)
        if name in one.scores.names:
            other = one.scores.groups[one.scores.names.index(name)]
            raise UserError(
                f"{whole.name} has {name!r} in group {group!r}, {one.name} in group {other!r}; "
                "evaluate both with the same --group_by or --group_column"
            )
        raise UserError(
            f"{one.name} lacks {len(lacking)} of the {len(whole.scores.names)} images of {whole.name}, such "
            f"as {name!r} in group {group!r}; evaluate both on the same data"
        )


def _keys(scores: Scores) -> list[tuple[str, str]]:
    return list(zip(scores.names, scores.groups, strict=True))
