"""Compares detectors on the same images, and fuses their scores.

    python -m train.compare runs/a/eval-test/scores.csv runs/b/eval-test/scores.csv

Each file is that of an evaluation; threshold and temperature come from the metrics.json beside it. Every
detector after the first is compared with the first: by DeLong's test of the AUC, and for all figures by a
bootstrap that draws the same photographs for both. Three fusions are in the table as well: mean and max of
the logits, and the mean of the probabilities (vote). ``--fused vote`` writes its scores into ``--out``.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one, not_negative
from recon.base.paths import one_name, split_path
from recon.place.alone import refuse_ranks

if TYPE_CHECKING:  # heavy; --help answers at once
    from train.evaluation.figures.bootstrap import Interval
    from train.evaluation.figures.delong import Difference
    from train.evaluation.figures.figures import Figures
    from train.evaluation.figures.fusion import Detected
    from train.evaluation.figures.scores import Scores

_PROG = "python -m train.compare"
_SHOWN = ("auc", "ap", "tpr_at_fpr_5", "balanced_accuracy", "accuracy", "nll", "brier")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Which scores are compared."""

    scores: list[str] = field(kw_only=False)
    """Two or more files scores.csv, or folders or URLs of evaluations."""
    out: str | None = None
    """Directory or URL for compare.md, compare.json and the fused scores.csv; None writes nothing."""
    fused: str | None = None
    """Fusion whose scores are written: mean, max or vote."""
    resamples: int = 1000
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the resamples."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least_one(self, "resamples")
        not_negative(self, "seed")
        if len(self.scores) < 2:
            raise UserError("a comparison needs two files of scores or more, found one")
        if self.fused is not None and self.out is None:
            raise UserError(f"fused={self.fused} needs --out, the folder for its scores.csv")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a detector differs from the first."""

    name: str
    """The detector."""
    differences: dict[str, float]
    """Its figures less those of the first."""
    intervals: "dict[str, Interval]"
    """Their 95 % intervals, of the bootstrap by photograph."""
    delong: "Difference | None"
    """Of the AUC; None if there are fewer than two images of a class."""


def main() -> None:
    """Runs the command line."""
    run(CompareConfig, _job, prog=_PROG, about=__doc__ or "")


def read_detected(place: str) -> "Detected":
    """A file of scores, with threshold and temperature from the metrics.json beside it, if there is one."""
    from pack.storage import open_store
    from train.evaluation.figures.decision import Decision
    from train.evaluation.figures.fusion import Detected
    from train.evaluation.figures.scores import read_scores, scores_file

    folder = split_path(scores_file(place))[0]
    store, decision = open_store(folder), Decision()
    if store.exists("metrics.json"):
        try:
            decision = Decision(**json.loads(store.read("metrics.json"))["decision"])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder}/metrics.json has no decision ({error}); evaluate again with this version"
            ) from error
    return Detected(name=place, scores=read_scores(place), decision=decision)


def compare(first: "Detected", other: "Detected", resamples: int, seed: int) -> Comparison:
    """Compares a detector with the first; both scored the same images in the same order (`aligned`)."""
    import numpy as np

    from train.evaluation.figures.bootstrap import Bootstrap, intervals
    from train.evaluation.figures.counts import Counter
    from train.evaluation.figures.delong import difference_of_aucs
    from train.evaluation.figures.figures import FIGURES, figures_of

    # The photographs are those that the first file names: both detectors' are drawn alike.
    scores = [replace(one.scores, photographs=first.scores.photographs) for one in (first, other)]
    pairs = list(zip(scores, (first.decision, other.decision), strict=True))
    counters, rows = [Counter(*pair) for pair in pairs], [figures_of(*pair) for pair in pairs]
    names = [name for name in FIGURES if name not in rows[0].missing]
    parts: dict[str, list[Any]] = {name: [] for name in names}
    if "intervals" not in rows[0].missing:
        for weights_RP in Bootstrap(resamples=resamples, seed=seed).weights(first.scores):
            ours, theirs = (counter.figures(weights_RP) for counter in counters)
            for name in names:
                parts[name].append(theirs[name] - ours[name])
    labels_N = first.scores.labels_N
    enough = min((labels_N == 0).sum(), (labels_N == 1).sum()) >= 2
    return Comparison(
        name=other.name,
        differences={name: getattr(rows[1], name) - getattr(rows[0], name) for name in names},
        intervals=intervals({name: np.concatenate(part) for name, part in parts.items() if part}),
        delong=difference_of_aucs(labels_N, first.scores.logits_N, other.scores.logits_N) if enough else None,
    )


def _job(config: CompareConfig) -> None:
    refuse_ranks(os.environ, _PROG)
    from pack.base.writable import check_writable
    from train.evaluation.figures.fusion import FUSIONS, aligned, fuse
    from train.evaluation.figures.scores import scores_file

    for place in config.scores if config.out is not None else ():
        if one_name(split_path(scores_file(place))[0]) == one_name(str(config.out)):
            raise UserError(f"out={config.out} is the folder of {place}, whose files it would replace")
    if config.fused is not None and config.fused not in FUSIONS:
        raise UserError(f"fused={config.fused}, expected one of {', '.join(FUSIONS)}")
    if config.out is not None:
        check_writable(f"{config.out.rstrip('/')}/compare.md")
    detected = aligned([read_detected(place) for place in config.scores])
    fusions = {how: fuse(detected, how) for how in FUSIONS}
    first, *others = [*detected, *fusions.values()]
    found = [compare(first, other, config.resamples, config.seed) for other in others]
    text = _markdown([first, *others], found, config)
    sys.stdout.write(text)
    if config.out is not None:
        _write(config.out, text, found, None if config.fused is None else fusions[config.fused])


def _markdown(detected: "Sequence[Detected]", found: Sequence[Comparison], config: CompareConfig) -> str:
    """Two tables: the figures of each detector, and how each differs from the first."""
    from train.evaluation.figures.figures import FIGURES, figures_of
    from train.evaluation.figures.table import DASH, cell, head, line, shown

    first = head(["detector", *(FIGURES[name].title for name in _SHOWN)])
    rows = [(one.name, figures_of(one.scores, one.decision)) for one in detected]
    first += [line([cell(name), *(shown(key, getattr(row, key)) for key in _SHOWN)]) for name, row in rows]
    second = head(["less the first", *(FIGURES[name].title for name in _SHOWN), "DeLong: AUC", "p"])
    for one in found:
        values = [shown(key, one.differences.get(key), one.intervals.get(key)) for key in _SHOWN]
        values.append(shown("auc", one.delong.value, one.delong.interval) if one.delong else DASH)
        p = one.delong and one.delong.p
        values.append(DASH if p is None else f"{p:.3g}")
        second.append(line([cell(one.name), *values]))
    return "\n".join([*first, "", *second, "", *_notes(detected, rows[0][1], found, config), ""])


def _notes(
    detected: "Sequence[Detected]", first: "Figures", found: Sequence[Comparison], config: CompareConfig
) -> list[str]:
    notes = [
        f"In brackets: 95 % intervals. Figures: {config.resamples} bootstrap resamples by photograph, the "
        f"same for both detectors, seed {config.seed}. DeLong takes all images for independent."
    ]
    notes += [
        f"{one.name}: fake above probability {one.decision.probability:.4g} ({one.decision.origin})."
        for one in detected
    ]
    notes += [
        f"No {'intervals' if key == 'intervals' else key}: {why}." for key, why in first.missing.items()
    ]
    if any(one.delong is None for one in found):
        notes.append("No DeLong test: it needs two images of each class.")
    notes += [
        f"No p of {one.name}: it ranks the images as the first does, or both rank them without an error."
        for one in found
        if one.delong is not None and one.delong.p is None
    ]
    return [f"- {note}" for note in notes]


def _write(out: str, text: str, found: Sequence[Comparison], fused: "Detected | None") -> None:
    from pack.storage import open_store
    from train.evaluation.figures.scores import FILE, encoded

    content: dict[str, bytes] = {}
    if fused is not None:
        content[FILE] = _csv(fused.scores)
        content["metrics.json"] = encoded(json.dumps({"decision": asdict(fused.decision)}, indent=2) + "\n")
    values = [asdict(one) | {"p": one.delong and one.delong.p} for one in found]
    content["compare.json"] = encoded(json.dumps(values, indent=2) + "\n")
    content["compare.md"] = encoded(text)
    store = open_store(out)
    for name, data in content.items():
        with store.publish(name) as file:
            file.write(data)


def _csv(scores: "Scores") -> bytes:
    from train.evaluation.figures.scores import scores_bytes

    columns = (scores.names, scores.groups, scores.labels_N.tolist(), scores.logits_N.tolist())
    return scores_bytes(zip(*columns, scores.photographs, strict=True))
