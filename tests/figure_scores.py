"""Scores for the tests of figures: with ties, classes and photographs drawn by hypothesis, or given."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from train.evaluation.figures.scores import Scores


def scores_of(
    labels: ArrayLike,
    logits: ArrayLike,
    groups: Sequence[str] | None = None,
    photographs: Sequence[str] | None = None,
) -> Scores:
    """By default all in the group ``g``, each image of a photograph of its own."""
    labels_N, logits_N = np.array(labels), np.array(logits, dtype=np.float64)
    names = [f"{place:05}" for place in range(len(labels_N))]
    return Scores(
        names=names,
        groups=groups or ["g"] * len(names),
        photographs=photographs or names,
        labels_N=labels_N,
        logits_N=logits_N,
    )


@st.composite
def drawn_scores(draw: st.DrawFn, *, both: bool = True) -> Scores:
    """2 to 30 images with many equal scores; with both classes unless `both` is false."""
    labels = draw(st.lists(st.integers(0, 1), min_size=0 if both else 2, max_size=28))
    labels = [*labels, 0, 1] if both else labels
    logits = draw(st.lists(st.integers(-20, 20), min_size=len(labels), max_size=len(labels)))
    return scores_of(labels, np.array(logits) / 4.0)


def binormal(rng: np.random.Generator, photographs: int, gap: float, shared: float = 0.7) -> Scores:
    """Pairs of which both scores hold the same part of the photograph; fakes score `gap` higher.

    All scores have variance 1, so the true AUC is Phi(gap / sqrt(2)), whatever the part in common.
    """
    common_P = rng.normal(size=photographs) * np.sqrt(shared)
    own_2P = rng.normal(size=(2, photographs)) * np.sqrt(1 - shared)
    logits = (common_P + own_2P + np.array([[0.0], [gap]])).ravel()
    names = [f"p{place:05}" for place in range(photographs)]
    return scores_of([0] * photographs + [1] * photographs, logits, photographs=names * 2)
