"""Writes the report of a run and of one of its evaluations, as Markdown and as a page of HTML.

    python -m train.report --run runs/one --evaluation runs/one/eval-test --out report.md

``report.html`` is written beside ``report.md``. It needs no other file and no network. It shows the figures
with their intervals, ROC and reliability curves, the scores by group, the worst mistakes (read again from the
evaluation's data), and the training. ``curves.png``, for the Markdown, is written into the same folder.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import not_negative
from recon.base.paths import expanded, make_folder, partial_name
from recon.place.alone import refuse_ranks

if TYPE_CHECKING:
    from train.reports.inputs.contents import Contents

_PROG = "python -m train.report"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The inputs of the report and its file."""

    run: str
    """Directory or URL of the training run; the curves show its metrics.jsonl."""
    evaluation: str
    """Directory or URL of an evaluation, with table.md, metrics.json and scores.csv."""
    preview: str | None = None
    """Picture of pairs to show (PNG), e.g. from python -m pack.preview."""
    robustness: str | None = None
    """Folder of python -m train.robustness; its curves are shown."""
    mistakes: int = 6
    """Worst mistakes of each class to show; 0 shows none, and does not read the evaluation's data."""
    note: str | None = None
    """A paragraph below the heading: what a reader has to know before the figures."""
    out: str = "report.md"
    """Markdown file to write; the page has the same name with .html."""
    title: str = "Training report"
    """Heading of the report."""

    def __post_init__(self) -> None:
        """Checks the options."""
        not_negative(self, "mistakes")
        if Path(self.out).suffix.lower() == ".html":
            raise UserError(f"out={self.out} names the page, which lies beside the Markdown; give report.md")


def main() -> None:
    """Runs the command line."""
    run(ReportConfig, _job, prog=_PROG, about=__doc__ or "")


def _job(config: ReportConfig) -> None:
    refuse_ranks(os.environ, _PROG)
    from pack.base.writable import check_apart, check_writable
    from train.reports.markdown import as_markdown
    from train.reports.page import as_html
    from train.reports.training import draw_curves

    out = expanded(config.out)
    page_file, curves = out.with_suffix(".html"), out.parent / "curves.png"
    outputs = [str(one) for one in (out, page_file, curves)]
    check_writable(*outputs)
    contents = contents_of(config)
    check_apart(outputs, [str(one.path) for one in contents.pictures])
    if contents.mismatch:
        _LOG.warning("%s", contents.mismatch)
    page = as_html(contents)
    try:
        make_folder(out.parent)
        draw_curves(contents.history, curves)
        _write(page_file, page)
        _write(out, as_markdown(contents, out.parent))
    except OSError as error:
        raise UserError(f"can't write {error.filename or out}: {error.strerror or error}") from error
    _LOG.info("%s and %s", out, page_file)


def contents_of(config: ReportConfig) -> "Contents":
    """Reads all that the report shows.

    Raises:
        UserError: a file is missing or of another form; but not where the report itself can say so.
    """
    from train.reports.inputs.contents import Contents
    from train.reports.inputs.evaluated import read_evaluation
    from train.reports.inputs.mistakes import find_mistakes
    from train.reports.inputs.origin import mismatch_of
    from train.reports.inputs.pictures import read_preview, read_robustness
    from train.reports.inputs.run_log import read_history

    preview = None if config.preview is None else read_preview(config.preview)
    robustness = [] if config.robustness is None else read_robustness(config.robustness)
    history, found = read_history(config.run), read_evaluation(config.evaluation)
    scores = found.scores if config.mistakes else "not asked for (--mistakes 0)"
    return Contents(
        title=config.title,
        note=config.note,
        run=config.run,
        history=history,
        found=found,
        mismatch=mismatch_of(config.run, found.facts),
        mistakes=scores if isinstance(scores, str) else find_mistakes(found, scores, config.mistakes),
        preview=preview,
        robustness=robustness,
    )


def _write(path: Path, text: str) -> None:
    from train.evaluation.figures.scores import encoded

    partial = path.with_name(partial_name(path.name))
    partial.write_bytes(encoded(text))
    os.replace(partial, path)
