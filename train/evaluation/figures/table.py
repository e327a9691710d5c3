"""The figures as text: three tables with the groups as rows, and notes that say what is what; as Markdown."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recon.base.paths import printable
from train.evaluation.figures.bootstrap import Bootstrap, Interval
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import FALSE_ALARMS, FIGURES, Figures, OverGroups, by_group, over_groups
from train.evaluation.figures.scores import OVERALL, Scores

DASH = "–"  # noqa: RUF001  # an en dash, not a minus sign
_TABLES = {
    "Ranking": ("auc", "ap", "tpr_at_fpr_1", "tpr_at_fpr_5", "pd_at_far_10", "eer"),
    "Verdicts": ("balanced_accuracy", "accuracy", "real_accuracy", "fake_accuracy", "best_accuracy"),
    "Probabilities": ("nll", "brier", "ece"),
}

Named = Callable[[str], str]
"""How the name of a label group is written, so that no part of it is taken for markup."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table."""

    name: str
    """Of the label group, or what the row is."""
    is_ours: bool
    """Whether it is no label group; groups may be called as our rows are."""
    cells: Sequence[str]
    """One for each head of the table but the first."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Some of the figures, as text."""

    title: str
    heads: Sequence[str]
    """Of the columns; the first is that of the names."""
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of an evaluation and what they were computed with."""

    rows: Mapping[str, Figures]
    """By label group, see `by_group`."""
    decision: Decision
    """Threshold and temperature."""
    bootstrap: Bootstrap | None
    """Of the intervals."""

    def markdown(self) -> str:
        """The tables. Our own rows are bold, and asterisks in the names of groups are escaped."""
        parts = [_markdown(one) for one in tables_of(self.rows, cell)]
        return "\n".join([*parts, *(f"- {note}" for note in notes_of(self, cell)), ""])

    def values(self) -> dict[str, Any]:
        """The same for a JSON file: ``overall``, ``groups``, ``over_groups``, ``decision``, ``bootstrap``."""
        rows = {name: asdict(row) for name, row in self.rows.items()}
        return {
            "decision": asdict(self.decision),
            "bootstrap": self.bootstrap and asdict(self.bootstrap),
            "overall": rows.pop(OVERALL),
            "groups": rows,
            "over_groups": asdict(over_groups(self.rows)),
        }


def report_of(scores: Scores, decision: Decision, bootstrap: Bootstrap | None = None) -> Report:
    """Computes the figures of a set of scores; for the arguments see `by_group`."""
    rows = by_group(scores, decision, bootstrap)
    return Report(rows=rows, decision=decision, bootstrap=bootstrap)


def shown(name: str, value: float | None, ends: Interval | None = None) -> str:
    """A figure as text, with its interval behind it; a dash for None."""
    if value is None:
        return DASH
    text = f"{value:.1%}" if FIGURES[name].percent else f"{value:.3f}"
    if ends is None:
        return text
    low, high = (f"{100 * end:.1f}" if FIGURES[name].percent else f"{end:.3f}" for end in ends)
    return f"{text} [{low}, {high}]"


def cell(text: str) -> str:
    """A name as the cell of a table: characters that Markdown would take for its own are escaped."""
    shown = printable(" ".join(text.split()) or text)
    return re.sub(r"([\\|*_`<\[])", r"\\\1", shown)


def line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def head(cells: Sequence[str]) -> list[str]:
    """The first two lines of a table: names to the left, numbers to the right."""
    return [line(cells), line(["---", *["---:"] * (len(cells) - 1)])]


def tables_of(rows: Mapping[str, Figures], named: Named) -> list[Table]:
    """The tables: a row for each group, then our own rows.

    Args:
        rows: see `Report.rows`.
        named: writes the names of groups.
    """
    over = over_groups(rows)
    return [_table(title, names, rows, over, named) for title, names in _TABLES.items()]


def _table(
    title: str, names: Sequence[str], rows: Mapping[str, Figures], over: OverGroups, named: Named
) -> Table:
    found = []
    for group, row in rows.items():
        figures = [shown(name, getattr(row, name), row.intervals.get(name)) for name in names]
        cells = [*figures, str(row.n_real), str(row.n_fake)]
        found.append(Row(name=_called(group, named), is_ours=group == OVERALL, cells=cells))
    for first, values in (("mean of groups", over.mean), ("standard deviation of groups", over.deviation)):
        cells = [*(shown(name, values.get(name)) for name in names), "", ""]
        found.append(Row(name=first, is_ours=True, cells=cells))
    cells = [*(worst_of(name, over, named) for name in names), "", ""]
    found.append(Row(name="worst group", is_ours=True, cells=cells))
    heads = ["group", *(FIGURES[name].title for name in names), "real", "fake"]
    return Table(title=title, heads=heads, rows=found)


def _markdown(table: Table) -> str:
    lines = [f"### {table.title}", "", *head(table.heads)]
    for row in table.rows:
        lines.append(line([f"**{row.name}**" if row.is_ours else row.name, *row.cells]))
    return "\n".join([*lines, ""])


def worst_of(name: str, over: OverGroups, named: Named) -> str:
    """The worst group of a figure and its value; a dash if no group has it."""
    if name not in over.worst:
        return DASH
    group, value = over.worst[name]
    return f"{shown(name, value)} {named(group)}"


def notes_on(decision: Decision, bootstrap: Bootstrap | None) -> list[str]:
    """Sentences that tell what verdicts, probabilities and intervals are."""
    notes = [
        f"Verdicts: an image counts as fake if its logit is above {decision.threshold:.6g}, that is, its "
        f"probability is above {decision.probability:.4g} ({decision.origin}).",
        f"Probabilities: sigmoid(logit / {decision.temperature:.6g}).",
    ]
    if bootstrap:
        notes.append(
            f"In brackets: 95 % intervals of {bootstrap.resamples} bootstrap resamples by photograph, seed "
            f"{bootstrap.seed}."
        )
    return notes


def notes_of(report: Report, named: Named) -> list[str]:
    """What the tables were computed with, what the figures mean, and the reason of each dash."""
    notes = notes_on(report.decision, report.bootstrap)
    notes += [f"{one.title}: {one.meaning}." for one in FIGURES.values() if one.meaning]
    return [*notes, *_few_reals(report.rows, named), *_reasons(report.rows, named)]


def _few_reals(rows: Mapping[str, Figures], named: Named) -> list[str]:
    """Which figures allow no false alarm at all, because so few images are real."""
    notes = []
    for name, percent in FALSE_ALARMS.items():
        needed = -(-100 // percent)
        few = [
            _called(group, named)
            for group, row in rows.items()
            if row.n_real < needed and getattr(row, name) is not None
        ]
        if few:
            notes.append(
                f"{FIGURES[name].title} of {', '.join(few)}: fewer than {needed} real images, so that no "
                "false alarm is allowed."
            )
    return notes


def _called(group: str, named: Named) -> str:
    return "all images" if group == OVERALL else named(group)


def _reasons(rows: Mapping[str, Figures], named: Named) -> list[str]:
    """Why there are dashes: a line for each reason, with its groups."""
    groups = by_reason((_called(group, named), row.missing) for group, row in rows.items())
    found = [f"{DASH} {names} of {', '.join(where)}: {why}." for (names, why), where in groups.items()]
    if len(rows) == 2:  # one group, and all images
        found.append(f"{DASH} standard deviation of groups: there is one group.")
    return found


def by_reason(missing: Iterable[tuple[str, Mapping[str, str]]]) -> dict[tuple[str, str], list[str]]:
    """Where figures are missing, by their titles and by the reason.

    Args:
        missing: what a place is called, and the `Figures.missing` of it.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for where, reasons in missing:
        names: dict[str, list[str]] = {}
        for name, why in reasons.items():
            names.setdefault(why, []).append("intervals" if name == "intervals" else FIGURES[name].title)
        for why, titles in names.items():
            found.setdefault((", ".join(titles), why), []).append(where)
    return found
