"""What the scores say: ROC curves, reliability, and the scores of each label group."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from train.evaluation.figures.figures import Figures, lack
from train.evaluation.figures.scores import OVERALL, SHARED, Scores
from train.evaluation.figures.table import DASH, shown
from train.reports.drawing import COLOURS, FAKE, REAL, svg
from train.reports.inputs.evaluated import Evaluated
from train.reports.markup import figure, grid, lacking, legend, paragraph, plain, section
from train.reports.plots import bins_of, draw_histogram, draw_reliability, draw_roc

_RELIABILITY = (
    "Reliability: the share of fakes among images of about the same probability. On the dotted line the "
    "probability is right. The bars show how full the bins are, beside the fullest."
)
_MOST = len(COLOURS) - 1  # groups on the page, since no two curves have one colour


def score_sections(found: Evaluated) -> list[str]:
    """The sections about scores."""
    if isinstance(found.scores, str):
        return [section("Scores", lacking(found.scores))]
    rows = found.report.rows if found.report else {}
    groups = _groups(found.scores, rows)
    left_out = len(set(found.scores.groups) - {SHARED}) - len(groups)
    told = f"The {len(groups)} groups of lowest AUC are shown, {left_out} others are not." if left_out else ""
    return [_curves(found, found.scores, groups, told), _histograms(found, found.scores, groups, told)]


def _groups(scores: Scores, rows: Mapping[str, Figures]) -> dict[str, Scores]:
    """The scores of each label group; where there are too many groups, of the worst."""

    def worst(name: str) -> tuple[bool, float]:
        auc = rows[name].auc if name in rows else None
        return (auc is None, auc or 0.0)

    names = sorted(sorted(set(scores.groups) - {SHARED}), key=worst)[:_MOST]
    return {name: scores.of_group(name) for name in sorted(names)}


def _lack(scores: Scores) -> str | None:
    return lack("both", *np.bincount(scores.labels_N, minlength=2).tolist())


def _curves(found: Evaluated, scores: Scores, groups: Mapping[str, Scores], told: str) -> str:
    title = "Ranking and reliability"
    if why := _lack(scores):
        return section(title, lacking(f"no curves: there are {why}"))
    # With one group its curve would hide that of all images, or be hidden.
    curves = {OVERALL: scores} | (dict(groups) if len(groups) > 1 else {})
    lacks = {name: why for name, one in curves.items() if (why := _lack(one))}
    drawn = {name: one for name, one in curves.items() if name not in lacks}
    roc = svg(partial(draw_roc, scores=list(drawn.values())), f"ROC curves, {len(drawn)} in number")
    names = legend({_with_auc(found, name): colour for name, colour in zip(drawn, COLOURS, strict=False)})
    reasons = [lacking(f"no curve of {name}: there are {why}") for name, why in lacks.items()]
    draw = partial(draw_reliability, scores=scores, decision=found.decision)
    reliability = svg(draw, "Share of fakes by probability of fake")
    plots = [figure(roc, "ROC" + names + "".join(reasons)), figure(reliability, _RELIABILITY)]
    return section(title, paragraph(told) if told else "", grid(plots))


def _with_auc(found: Evaluated, name: str) -> str:
    row = found.report.rows.get(name) if found.report else None
    auc = shown("auc", row.auc, row.intervals.get("auc")) if row else DASH
    # A group may be called "all images", too.
    return f"{'all images together' if name == OVERALL else name}: AUC {auc}"


def _histograms(found: Evaluated, scores: Scores, groups: Mapping[str, Scores], told: str) -> str:
    bins, decision = bins_of(scores.logits_N, found.decision.threshold), found.decision
    drawn = []
    for name, one in groups.items():
        draw = partial(draw_histogram, scores=one, decision=decision, bins=bins)
        reals, fakes = np.bincount(one.labels_N, minlength=2)
        about = f"Scores of {reals} real images and {fakes} fakes in group {name}"
        drawn.append(
            figure(svg(draw, about, 3.4, 2.4), f"<strong>{plain(name)}</strong>: {reals} real, {fakes} fake")
        )
    key = legend({"real": REAL, "fake": FAKE})
    line = "Each class by its share. Right of the dashed line an image counts as fake."
    if not drawn:
        drawn = [lacking("no image belongs to a label group")]
    return section("Scores by group", paragraph(f"{line} {told}".strip()), key, grid(drawn, "small"))
