"""Writes the report of a run: the metrics of its evaluation, a picture of pairs, training curves.

    python -m train.report --run runs/one --evaluation runs/one/eval-test --out report.md

``curves.png``, drawn from the run's metrics.jsonl, is written into the folder of the report.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.paths import is_file

_CURVES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
_DOTS_PER_INCH = 110


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The inputs of the report and its file."""

    run: str
    """Directory of the training run; the curves show its metrics.jsonl."""
    evaluation: str
    """Directory of an evaluation, with table.md and metrics.json."""
    preview: str | None = None
    """Picture of pairs to show, e.g. from python -m pack.preview."""
    out: str = "report.md"
    """Markdown file to write; curves.png is written into the same folder."""
    title: str = "Training report"
    """Heading of the report."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The lines of a run's metrics.jsonl."""

    training: Sequence[dict[str, Any]]
    """Lines with step, epoch, loss (None if all steps of the line were left out) and lr."""
    validation: Sequence[dict[str, Any]]
    """Lines with step, epoch and val, the values of `train.evaluation.metrics.Summary`."""


def main() -> None:
    """Runs the command line."""
    run(ReportConfig, _job, prog="python -m train.report", about=__doc__ or "")


def read_history(path: Path) -> History:
    """Reads metrics.jsonl.

    Raises:
        UserError: the file is missing, a line has another form, or there is no training step.
    """
    lines = [_line(path, number, text) for number, text in enumerate(_text(path).splitlines(), 1)]
    training = [line for line in lines if "loss" in line]
    if not training:
        raise UserError(f"{path} holds no training step; expected lines with step, epoch, loss and lr")
    return History(training=training, validation=[line for line in lines if "val" in line])


def draw_curves(history: History, path: Path) -> None:
    """Draws the loss by step and the validation metrics by epoch into a PNG.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the curves need matplotlib; pip install pairstream[plot]") from error
    # Without pyplot, which needs global state and may look for a display.
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_loss(left, history.training)
    _draw_validation(right, history.validation)
    # Written under another name and renamed, so that a killed command leaves no half picture.
    partial = path.with_name(f".{path.name}.partial")
    FigureCanvasAgg(figure).print_figure(partial, dpi=_DOTS_PER_INCH, format="png")
    os.replace(partial, path)


def compose(config: ReportConfig, history: History, facts: dict[str, Any], table: str) -> str:
    """The Markdown of the report; links to pictures are relative to its folder.

    Args:
        config: the options of the report.
        history: the lines of the run's log.
        facts: the content of the evaluation's metrics.json.
        table: the content of the evaluation's table.md.
    """
    out = Path(config.out)
    parts = [f"# {config.title}", _facts(config.run, history, facts), table.strip()]
    if config.preview is not None:
        parts.append(f"![Pairs: real, reconstruction, difference]({_link(Path(config.preview), out.parent)})")
    parts.append("![Loss by step; validation by epoch](curves.png)")
    return "\n\n".join(parts) + "\n"


def _job(config: ReportConfig) -> None:
    evaluation, out = Path(config.evaluation), Path(config.out)
    history = read_history(Path(config.run) / "metrics.jsonl")
    table, facts = _text(evaluation / "table.md"), _json(evaluation / "metrics.json")
    if config.preview is not None and not is_file(config.preview):
        raise UserError(f"preview={config.preview}: no such file; python -m pack.preview writes one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draw_curves(history, out.parent / "curves.png")
        partial = out.with_name(f".{out.name}.partial")
        partial.write_text(compose(config, history, facts, table), encoding="utf-8")
        os.replace(partial, out)
    except OSError as error:
        raise UserError(f"can't write {error.filename or out}: {error.strerror}") from error


def _facts(run: str, history: History, facts: dict[str, Any]) -> str:
    last = history.training[-1]
    crop = "whole images" if facts.get("crop") is None else f"centre crops of {facts['crop']} pixels"
    trained = f"`{facts['backbone']}` trained in `{run}`: epoch {last['epoch']}, step {last['step']}"
    loss = "" if last["loss"] is None else f", loss {last['loss']:.3f}"
    return (
        f"{trained}{loss}.\nScored by `{facts['checkpoint']}`: {facts['images']} {crop} of `{facts['data']}`."
    )


def _draw_loss(axes: Any, training: Sequence[dict[str, Any]]) -> None:
    points = [(line["step"], line["loss"]) for line in training if line["loss"] is not None]
    axes.plot([step for step, _ in points], [loss for _, loss in points], linewidth=1)
    axes.set(xlabel="step", ylabel="training loss (nats an image)", ylim=(0, None))
    axes.grid(alpha=0.3)


def _draw_validation(axes: Any, validation: Sequence[dict[str, Any]]) -> None:
    for name, label in _CURVES.items():
        points = [(line["epoch"], line["val"][name]) for line in validation if line["val"][name] is not None]
        axes.plot([epoch for epoch, _ in points], [value for _, value in points], marker=".", label=label)
    axes.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))  # so that a curve at 1 can be seen
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _link(picture: Path, folder: Path) -> str:
    # Markdown ends the target of a link at a space.
    return Path(os.path.relpath(picture.resolve(), folder.resolve())).as_posix().replace(" ", "%20")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error}); check --run and --evaluation") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(_text(path))
        missing = {"backbone", "checkpoint", "data", "images"} - set(facts)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a JSON object: {error}") from error
    if missing:
        raise UserError(f"{path} lacks {', '.join(sorted(missing))}; python -m train.evaluate writes it")
    return dict(facts)


def _line(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
        if {"step", "epoch"} <= set(line) and ("loss" in line or set(_CURVES) <= set(line["val"])):
            return dict(line)
    except (ValueError, TypeError, KeyError):
        pass  # the error below names the line
    raise UserError(f"{path} line {number}: expected step and epoch with loss or val, found {text[:60]!r}")
