"""What a run has logged: the values of its training and its validations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon.base.errors import UserError
from train.reports.inputs.texts import text_of

CURVES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
"""The values of a validation that are drawn, and what they are called."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The lines of a run's metrics.jsonl."""

    training: Sequence[dict[str, Any]]
    """Lines with step, epoch, loss (None if all steps of the line were left out) and lr."""
    validation: Sequence[dict[str, Any]]
    """Lines with step, epoch and val, the values of `train.evaluation.metrics.Summary`."""

    @property
    def end(self) -> str:
        """How far the run has come, in words."""
        last, loss = max([*self.training, *self.validation], key=_step), self.training[-1]["loss"]
        told = "" if loss is None else f", last logged loss {loss:.3f}"
        return f"ends in epoch {last['epoch']} at step {last['step']}{told}"


def read_history(run: str) -> History:
    """Reads the metrics.jsonl of a run's directory or URL.

    Raises:
        UserError: the file is missing, a line has another form, or there is no training step.
    """
    path = f"{run.rstrip('/')}/metrics.jsonl"
    text = text_of(run, "metrics.jsonl", "--run")
    lines = [_line(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    training = [line for line in lines if "loss" in line]
    if not training:
        raise UserError(f"{path} holds no training step; expected lines with step, epoch, loss and lr")
    return History(training=training, validation=[line for line in lines if "val" in line])


def _step(line: dict[str, Any]) -> int:
    return int(line["step"])


def _line(path: str, number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
        if {"step", "epoch"} <= set(line) and ("loss" in line or set(CURVES) <= set(line["val"])):
            return dict(line)
    except (ValueError, TypeError, KeyError):
        pass  # the error below names the line
    raise UserError(f"{path} line {number}: expected step and epoch with loss or val, found {text[:60]!r}")
