"""The files of a robustness test: scores, tables, pictures, and all figures as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pack.storage import Store
from recon.base.paths import printable
from train.evaluation.figures.figures import FIGURES, Figures, over_groups
from train.evaluation.figures.scores import COLUMNS, FILE, OVERALL, SHARED, csv_bytes, encoded
from train.evaluation.figures.table import DASH, by_reason, cell, head, line, notes_on, shown, worst_of
from train.evaluation.inputs.source import ImageSource, Lost
from train.evaluation.results import write_files
from train.evaluation.robust.cells import Cell
from train.evaluation.robust.curves import pictures
from train.evaluation.robust.found import CellFound

_SHOWN = ("auc", "ap", "tpr_at_fpr_5", "balanced_accuracy", "real_accuracy", "fake_accuracy")
_ABOUT = ("family", "cell", "op", "parameters", "x", "curve", "group", "real", "fake", "left_out")


def write_results(
    store: Store, source: ImageSource, found: Sequence[CellFound], table: str, facts: dict[str, Any]
) -> None:
    """Writes all files; robustness.json comes last, so that all are there if it is.

    Args:
        store: where.
        source: the images.
        found: of each cell, the images as they are first.
        table: see `table_of`.
        facts: what robustness.json says beside the figures.
    """
    rejected = [json.dumps(one, ensure_ascii=False) + "\n" for one in _rejected(source, found)]
    content = {
        FILE: csv_bytes((*COLUMNS, "cell"), _scores(source, found)),
        "rejected.jsonl": encoded("".join(rejected)),
        "table.md": encoded(table),
        "robustness.csv": csv_bytes(
            (*_ABOUT, *(f"{name}{end}" for name in _SHOWN for end in ("", "_low", "_high"))),
            (row for one in found for row in _rows(one, source)),
        ),
        **pictures(found),
        "robustness.json": encoded(json.dumps(facts | _values(found), indent=2) + "\n"),
    }
    for name in store.names():  # of an earlier test, of another grid
        if name.startswith("curves") and name.endswith(".png") and name not in content:
            store.remove(name)
    write_files(store, content)


def _scores(source: ImageSource, found: Sequence[CellFound]) -> Iterator[Sequence[object]]:
    for one in found:
        for image, outcome in zip(source.listed, one.outcomes, strict=True):
            if isinstance(outcome, float):
                yield image.name, image.group, image.label, outcome, image.photograph, one.cell.name


def _rejected(source: ImageSource, found: Sequence[CellFound]) -> Iterator[dict[str, object]]:
    """A line for each image that no cell has, with one cause; else for each cell that lacks the image."""
    for place, image in enumerate(source.listed):
        lost = [(one.cell.name, one.outcomes[place]) for one in found]
        causes = [(name, why) for name, why in lost if isinstance(why, Lost)]
        if len(causes) == len(found) and len({why for _, why in causes}) == 1:
            causes = [("", causes[0][1])]
        for name, why in causes:
            yield {"name": image.name, "kind": why.kind, "cause": why.cause, "cell": name or None}


def _rows(found: CellFound, source: ImageSource) -> Iterator[Sequence[object]]:
    """The rows of a cell in robustness.csv: one for each group, and one for all images."""
    one = found.cell
    about = (
        one.family,
        one.name,
        "+".join(step.op for step in one.steps),
        "; ".join(step.parameters for step in one.steps),
        "" if one.x is None else one.x.value,
        one.curve,
    )
    pairs = zip(source.listed, found.outcomes, strict=True)
    lost = [image.group for image, outcome in pairs if isinstance(outcome, Lost)]
    for group, figures in found.report.rows.items():
        left_out = sum(group == OVERALL or one in (group, SHARED) for one in lost)
        values = [value for name in _SHOWN for value in _with_ends(figures, name)]
        yield *about, group, figures.n_real, figures.n_fake, left_out, *values


def _with_ends(figures: Figures, name: str) -> list[object]:
    value, ends = getattr(figures, name), figures.intervals.get(name, ("", ""))
    return ["" if value is None else value, *ends]


def _values(found: Sequence[CellFound]) -> dict[str, Any]:
    """All figures for robustness.json."""
    first = found[0].report
    return {
        "images": found[0].scored,
        "rejected": found[0].left_out,
        "decision": asdict(first.decision),
        "bootstrap": first.bootstrap and asdict(first.bootstrap),
        "cells": [_cell_values(one) for one in found],
    }


def _cell_values(found: CellFound) -> dict[str, Any]:
    one, values = found.cell, found.report.values()
    return {
        "family": one.family,
        "cell": one.name,
        "steps": [asdict(step) for step in one.steps],
        "x": one.x and asdict(one.x),
        "curve": one.curve,
        "left_out": found.left_out,
        "overall": values["overall"],
        "groups": values["groups"],
    }


def table_of(found: Sequence[CellFound]) -> str:
    """The figures of all images in each cell, and the worst group."""
    columns = ["cell", *(FIGURES[name].title for name in _SHOWN), "real", "fake", "left out"]
    groups = len(found[0].report.rows) - 1
    lines = head([*columns, *(["worst group (AUC)"] if groups > 1 else [])])
    for one in found:
        figures = one.overall
        values = [shown(name, getattr(figures, name), figures.intervals.get(name)) for name in _SHOWN]
        counts = [str(figures.n_real), str(figures.n_fake), str(sum(one.left_out.values()))]
        worst = [worst_of("auc", over_groups(one.report.rows), cell)] if groups > 1 else []
        lines.append(line([_title(one.cell), *values, *counts, *worst]))
    report = found[0].report
    notes = [*notes_on(report.decision, report.bootstrap), *_reasons(found)]
    if any(one.left_out for one in found):
        notes.append("Left out: images that can't be scored in that cell; rejected.jsonl has the causes.")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _title(one: Cell) -> str:
    return cell(printable(one.name))


def _reasons(found: Sequence[CellFound]) -> Iterator[str]:
    """Why there are dashes, or no intervals: a line for each reason, with its cells."""
    shown_here = (*_SHOWN, "intervals")
    cells = by_reason(
        (_title(one.cell), {name: why for name, why in one.overall.missing.items() if name in shown_here})
        for one in found
    )
    for (figures, why), where in cells.items():
        yield f"{DASH} {figures} of {'all cells' if len(where) == len(found) else ', '.join(where)}: {why}."
