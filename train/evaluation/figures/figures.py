"""The figures of each label group, with their intervals, and those over the groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from train.evaluation.figures.bootstrap import LEVEL, Bootstrap, Interval, intervals, photographs_of
from train.evaluation.figures.counts import ECE_BINS, Counter
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import OVERALL, SHARED, Scores


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a figure is called and what it needs."""

    title: str
    """Head of its column."""
    meaning: str
    """One line for the notes below the table; empty if the title says it all."""
    needs: Literal["real", "fake", "both", "any"] = "both"
    """The classes without which it does not exist."""
    best: Literal["high", "low"] = "high"
    """Which end is good; the worst group has the value at the other end."""
    percent: bool = False
    """Whether people read it in per cent."""


FALSE_ALARMS = {"tpr_at_fpr_1": 1, "tpr_at_fpr_5": 5, "pd_at_far_10": 10}
"""Figures at a share of false alarms, in per cent."""
_AT_MOST = "share of fakes found at the lowest threshold that takes at most {} % of the real images for fakes"
FIGURES = {
    "auc": Figure(title="AUC", meaning=""),
    "ap": Figure(title="AP", meaning=""),
    "tpr_at_fpr_1": Figure(title="TPR at 1 % FPR", meaning=_AT_MOST.format(1), percent=True),
    "tpr_at_fpr_5": Figure(title="TPR at 5 % FPR", meaning=_AT_MOST.format(5), percent=True),
    "pd_at_far_10": Figure(title="Pd at 10 % FAR", meaning=_AT_MOST.format(10), percent=True),
    "eer": Figure(
        title="EER",
        meaning="error rate where it is the same for real images and fakes, on the lines of the ROC curve",
        best="low",
        percent=True,
    ),
    "balanced_accuracy": Figure(title="balanced accuracy", meaning="", percent=True),
    "accuracy": Figure(title="accuracy", meaning="", needs="any", percent=True),
    "real_accuracy": Figure(title="real accuracy", meaning="", needs="real", percent=True),
    "fake_accuracy": Figure(title="fake accuracy", meaning="", needs="fake", percent=True),
    "best_accuracy": Figure(
        title="accuracy at the best threshold (oracle)",
        meaning="the threshold is chosen on these very images: a bound, not a result",
        percent=True,
    ),
    "nll": Figure(title="NLL", meaning="mean log loss in nats", needs="any", best="low"),
    "brier": Figure(
        title="Brier", meaning="mean squared error of the probability of fake", needs="any", best="low"
    ),
    "ece": Figure(
        title="ECE",
        meaning=f"mean gap of probability and share of fakes in {ECE_BINS} bins of equal width; it is biased "
        "upwards in small sets, and so is its interval",
        needs="any",
        best="low",
    ),
}
"""The figures by field of `Figures`, in the order of the table."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of a set of scores; None if it has not what a figure needs, `missing` says why.

    All are in 0..1 but ``nll``, which is 0 or more. `FIGURES` says what each means.
    """

    auc: float | None
    ap: float | None
    tpr_at_fpr_1: float | None
    tpr_at_fpr_5: float | None
    pd_at_far_10: float | None
    eer: float | None
    balanced_accuracy: float | None
    accuracy: float | None
    real_accuracy: float | None
    fake_accuracy: float | None
    best_accuracy: float | None
    nll: float | None
    brier: float | None
    ece: float | None
    n_real: int
    """Number of real images."""
    n_fake: int
    """Number of fakes."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Ends of the 95 % interval, by field."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a figure is None, by field; with the key ``intervals``, why there are none."""


@dataclass(frozen=True, kw_only=True)
class OverGroups:
    """Figures over the label groups, each group counting once."""

    mean: Mapping[str, float]
    """By field; a field is left out if no group has it."""
    deviation: Mapping[str, float]
    """Standard deviation of the groups (divisor: groups - 1), if two groups have the field."""
    worst: Mapping[str, tuple[str, float]]
    """Name and value of the worst group; of equals the first by name."""


def figures_of(scores: Scores, decision: Decision, bootstrap: Bootstrap | None = None) -> Figures:
    """Computes the figures of a set of images; their order does not matter.

    Args:
        scores: the images.
        decision: threshold and temperature.
        bootstrap: how the intervals are computed; None computes none.
    """
    counter = Counter(scores, decision)
    n_fake = int((scores.labels_N == 1).sum())
    n_real = len(scores.names) - n_fake
    missing = {name: why for name, one in FIGURES.items() if (why := lack(one.needs, n_real, n_fake))}
    values = counter.figures(np.ones((1, len(set(scores.photographs)))))
    found = {name: None if name in missing else float(values[name][0]) for name in FIGURES}
    ends: dict[str, Interval] = {}
    if why := _no_intervals(scores):
        missing["intervals"] = why
    elif bootstrap:
        parts = [counter.figures(weights_RP) for weights_RP in bootstrap.weights(scores)]
        ends = intervals({name: np.concatenate([part[name] for part in parts]) for name in FIGURES})
    return Figures(**found, n_real=n_real, n_fake=n_fake, intervals=ends, missing=missing)


def by_group(scores: Scores, decision: Decision, bootstrap: Bootstrap | None = None) -> dict[str, Figures]:
    """Computes the figures of each label group and, with the key `OVERALL`, of all images together.

    Args:
        scores: the images. Those of the group `SHARED` (real images without a generator of their own) count
            in every group, but only once in `OVERALL`.
        decision: threshold and temperature, the same for all groups.
        bootstrap: how the intervals are computed; None computes none.

    Returns:
        The groups in alphabetical order, `OVERALL` last.
    """
    rows = {
        name: figures_of(scores.of_group(name), decision, bootstrap)
        for name in sorted(set(scores.groups) - {SHARED})
    }
    return rows | {OVERALL: figures_of(scores, decision, bootstrap)}


def over_groups(rows: Mapping[str, Figures]) -> OverGroups:
    """Mean, standard deviation and worst of the groups' figures; the row `OVERALL` does not count."""
    mean, deviation, worst = {}, {}, {}
    for name, one in FIGURES.items():
        values = {
            group: value
            for group, row in rows.items()
            if group != OVERALL and (value := getattr(row, name)) is not None
        }
        if not values:
            continue
        mean[name] = fmean(values.values())
        if len(values) > 1:
            deviation[name] = stdev(values.values())
        group = (min if one.best == "high" else max)(values, key=lambda group: values[group])
        worst[name] = (group, values[group])
    return OverGroups(mean=mean, deviation=deviation, worst=worst)


def lack(needs: str, n_real: int, n_fake: int) -> str | None:
    """Which of the classes that are needed is missing, in words; ``needs`` as in `Figure`."""
    if not n_real and needs in ("real", "both"):
        return "no real images"
    return "no fakes" if not n_fake and needs in ("fake", "both") else None


def _no_intervals(scores: Scores) -> str | None:
    """Why a resample of photographs would tell nothing."""
    for label, name in ((0, "real images"), (1, "fakes")):
        if photographs_of(scores, label) == 1:
            return f"the {name} come from one photograph; nothing to resample"
    return None


assert {one.name for one in fields(Figures)} > set(FIGURES)
assert LEVEL == 0.95  # the texts here and in the table say so
