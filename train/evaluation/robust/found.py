"""What was found in one cell of a grid: its scores, what was left out, and the figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from train.evaluation.figures.bootstrap import Bootstrap
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import FIGURES, Figures
from train.evaluation.figures.scores import OVERALL, SHARED
from train.evaluation.figures.table import Report
from train.evaluation.inputs.source import ImageSource
from train.evaluation.results import parted, report_on
from train.evaluation.robust.cells import Cell
from train.evaluation.work.parts import Outcome

_NOTHING = "no image of this cell has a score"


@dataclass(frozen=True, kw_only=True)
class CellFound:
    """The scores of a cell and their figures."""

    cell: Cell
    outcomes: Sequence[Outcome]
    """In the order of the source."""
    report: Report
    """The figures by group; a group without a score in this cell has figures that are None."""
    left_out: dict[str, int]
    """Images without a score by cause."""

    @property
    def scored(self) -> int:
        """Number of images with a score."""
        return len(self.outcomes) - sum(self.left_out.values())

    @property
    def overall(self) -> Figures:
        """The figures of all images."""
        return self.report.rows[OVERALL]


def found_in(
    cell: Cell,
    source: ImageSource,
    outcomes: Sequence[Outcome],
    decision: Decision,
    bootstrap: Bootstrap,
) -> CellFound:
    """Computes the figures of a cell.

    Args:
        cell: the cell.
        source: the images; all have a label.
        outcomes: that of each image in this cell.
        decision: threshold and temperature.
        bootstrap: of the intervals.
    """
    scored, lost = parted(source.listed, outcomes)
    report = report_on(scored, decision, bootstrap)
    rows = dict(report.rows) if report else {}
    groups = sorted({one.group for one in source.listed} - {SHARED})
    return CellFound(
        cell=cell,
        outcomes=outcomes,
        report=Report(
            rows={group: rows.get(group) or _nothing() for group in [*groups, OVERALL]},
            decision=decision,
            bootstrap=bootstrap,
        ),
        left_out=Counter(one.kind for _, one in lost),
    )


def _nothing() -> Figures:
    """The figures of no image."""
    return Figures(
        **dict.fromkeys(FIGURES),  # type: ignore[arg-type]  # mypy takes them for any field
        n_real=0,
        n_fake=0,
        missing=dict.fromkeys(FIGURES, _NOTHING),
    )
