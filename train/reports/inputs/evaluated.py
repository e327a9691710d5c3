"""What an evaluation has written: its facts, its figures, its scores."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pack.storage import open_store
from recon.base.errors import UserError
from train.evaluation.figures.bootstrap import Bootstrap
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import FIGURES, Figures
from train.evaluation.figures.scores import OVERALL, Scores, read_scores
from train.evaluation.figures.table import Report
from train.reports.inputs.texts import text_of

_OLD = "this evaluation is of an earlier version; run python -m train.evaluate again"

_OTHERS = (  # a file by which the folder of another command is known
    ("robustness.json", "train.robustness", "; give this one as --robustness"),
    ("compare.json", "train.compare", ", of one of the detectors that were compared"),
)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The folder of an evaluation."""

    facts: Mapping[str, Any]
    """metrics.json: backbone, checkpoint, data, images, and what else its version writes."""
    table: str
    """table.md."""
    report: Report | None
    """The figures; None if no image has a label."""
    scores: Scores | str
    """Those of the images that have a label; or why there are none."""

    @property
    def decision(self) -> Decision:
        """When an image counts as fake."""
        return self.report.decision if self.report else Decision()


def read_evaluation(place: str) -> Evaluated:
    """Reads the folder or URL of an evaluation, also one that an earlier version wrote.

    Raises:
        UserError: a file is missing or of another form; but not for scores.csv, of which the report can say
            so itself.
    """
    _check_kind(place)
    table, facts = text_of(place, "table.md", "--evaluation"), _facts(place)
    try:
        scores: Scores | str = read_scores(place)
    except UserError as error:
        scores = str(error)
    try:
        return Evaluated(facts=facts, table=table, report=_report(facts), scores=scores)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise UserError(
            f"{place}/metrics.json has figures of another form ({error}); run python -m train.evaluate again"
        ) from error


def _check_kind(place: str) -> None:
    """UserError: the folder is one of another command."""
    store = open_store(place)
    if all(map(store.exists, ("table.md", "metrics.json"))):
        return
    for name, maker, hint in _OTHERS:
        if store.exists(name):
            raise UserError(
                f"evaluation={place} is a folder of python -m {maker} ({name}); expected one of python -m "
                f"train.evaluate{hint}"
            )


def _facts(place: str) -> dict[str, Any]:
    path = f"{place.rstrip('/')}/metrics.json"
    text = text_of(place, "metrics.json", "--evaluation")
    try:
        facts = json.loads(text)
        missing = {"backbone", "checkpoint", "data", "images"} - set(facts)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a JSON object: {error}") from error
    if missing:
        raise UserError(f"{path} lacks {', '.join(sorted(missing))}; python -m train.evaluate writes it")
    return dict(facts)


def _report(facts: Mapping[str, Any]) -> Report | None:
    if not facts.get("overall"):
        return None
    rows = {name: _figures(row) for name, row in facts.get("groups", {}).items()}
    bootstrap = facts.get("bootstrap")
    return Report(
        rows=rows | {OVERALL: _figures(facts["overall"])},
        decision=Decision(**facts.get("decision", {})),
        bootstrap=Bootstrap(**bootstrap) if bootstrap else None,
    )


def _figures(row: Mapping[str, Any]) -> Figures:
    # An earlier version had fewer figures, and gave no reasons.
    missing = {name: _OLD for name in FIGURES if row.get(name) is None}
    ends = {name: (low, high) for name, (low, high) in row.get("intervals", {}).items()}
    return Figures(
        **{name: row.get(name) for name in FIGURES},
        n_real=row["n_real"],
        n_fake=row["n_fake"],
        intervals=ends,
        missing=missing | row.get("missing", {}),
    )
