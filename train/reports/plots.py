"""What is drawn on the axes: the curves of a run, and what its scores say."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from recon.base.paths import printable
from train.evaluation.figures.counts import ECE_BINS
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import Scores
from train.reports.drawing import COLOURS, FAKE, REAL
from train.reports.inputs.run_log import CURVES

_BINS = 40  # of a histogram
_THIN = {"alpha": 0.5, "linewidth": 1}


def draw_roc(axes: Any, scores: Sequence[Scores]) -> None:
    """The ROC curve of each set of scores, in the order of `COLOURS`; each has both classes."""
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", **_THIN)
    for number, (one, colour) in enumerate(zip(scores, COLOURS, strict=False)):
        fpr_K, tpr_K, _ = roc_curve(one.labels_N, one.logits_N)
        # The first, that of all images, lies over the others.
        axes.plot(fpr_K, tpr_K, color=colour, linewidth=1.4 if number else 2.2, zorder=2 if number else 3)
    axes.set(xlabel="real images taken for fakes", ylabel="fakes found", xlim=(-0.01, 1), ylim=(0, 1.02))


def draw_reliability(axes: Any, scores: Scores, decision: Decision) -> None:
    """The share of fakes by the probability of fake, in the bins of the ECE; both classes are there."""
    p_N = expit(scores.logits_N / decision.temperature)
    share_K, mean_K = calibration_curve(scores.labels_N, p_N, n_bins=ECE_BINS, pos_label=1)
    count_B = np.histogram(p_N, np.linspace(0, 1, ECE_BINS + 1))[0]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", **_THIN)
    axes.bar(
        (np.arange(ECE_BINS) + 0.5) / ECE_BINS,
        count_B / count_B.max(),
        width=1 / ECE_BINS,
        color="grey",
        alpha=0.25,
    )
    axes.plot(mean_K, share_K, color=REAL, marker="o", markersize=4, linewidth=1.6)
    axes.set(xlabel="probability of fake", ylabel="share of fakes", xlim=(0, 1), ylim=(0, 1.02))


def bins_of(logits_N: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Edges of the bins in which all histograms of a page count, so that they can be compared.

    They reach to the threshold, which is drawn, too: beside one far away a bin of scores alone would be too
    narrow to be seen.
    """
    low, high = min(float(logits_N.min()), threshold), max(float(logits_N.max()), threshold)
    if low == high:  # an odd number of bins, so that the scores are in the middle of one
        return np.linspace(low - 0.5, low + 0.5, _BINS + 2)
    return np.linspace(low, high, _BINS + 1)


def draw_histogram(axes: Any, scores: Scores, decision: Decision, bins: NDArray[np.float64]) -> None:
    """The scores of real images and of fakes, each class by its share; the threshold is dashed."""
    for label, colour in ((0, REAL), (1, FAKE)):
        logits_C = scores.logits_N[scores.labels_N == label]
        if len(logits_C):
            share_C = np.full(len(logits_C), 1 / len(logits_C))
            axes.hist(logits_C, bins=bins, weights=share_C, color=colour, alpha=0.55)
    axes.axvline(decision.threshold, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel="logit", ylabel="share of the class")


def draw_loss(axes: Any, training: Sequence[dict[str, Any]]) -> None:
    """The loss by step."""
    points = [(line["step"], line["loss"]) for line in training if line["loss"] is not None]
    axes.plot([step for step, _ in points], [loss for _, loss in points], color=COLOURS[0], linewidth=1)
    axes.set(xlabel="step", ylabel="training loss (nats an image)", ylim=(0, None))


def draw_validation(axes: Any, validation: Sequence[dict[str, Any]]) -> None:
    """The values of `CURVES` by epoch, and thin lines for the AUC of each of several sets."""
    for (name, label), colour in zip(CURVES.items(), COLOURS, strict=False):
        points = [(line["epoch"], line["val"][name]) for line in validation if line["val"][name] is not None]
        epochs, values = [epoch for epoch, _ in points], [value for _, value in points]
        axes.plot(epochs, values, color=colour, marker=".", label=label)
    named = {name: None for line in validation for name in line.get("sets", {})}  # in their order
    for name, colour in zip(named, COLOURS[len(CURVES) :], strict=False):
        aucs = [
            (line["epoch"], line["sets"][name]["auc"]) for line in validation if name in line.get("sets", {})
        ]
        epochs, values = [epoch for epoch, _ in aucs], [math.nan if auc is None else auc for _, auc in aucs]
        axes.plot(epochs, values, color=colour, linewidth=1, label=f"AUC on {printable(name)}")
    axes.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))  # so that a curve at 1 can be seen
    axes.legend(loc="lower right", framealpha=0)
