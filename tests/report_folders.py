"""Folders of a run and of its evaluation, as the commands write them, and the page that reports on them."""

import json
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import run

from pack.storage import open_store
from train.evaluation.evaluate import INPUTS, EvaluateConfig, source_of
from train.evaluation.figures.bootstrap import Bootstrap
from train.evaluation.figures.decision import Decision
from train.evaluation.results import ScoredImage, report_on, table_of, write_results
from train.reports.command import main

VAL: dict[str, Any] = {"auc": 0.9, "ap": 0.9, "balanced_accuracy": 0.8}
LINES: list[dict[str, Any]] = [
    {"step": 10, "epoch": 0, "loss": 0.7, "lr": 0.001},
    {"step": 20, "epoch": 0, "loss": None, "lr": 0.001, "left_out": 10},
    {"step": 20, "epoch": 0, "val": VAL},
    {"step": 30, "epoch": 1, "loss": 0.25, "lr": 0.001},
    {"step": 40, "epoch": 1, "val": VAL | {"auc": None, "balanced_accuracy": None}},
]
FACTS = {"backbone": "highpass", "checkpoint": "run/best.pt", "data": "held/out", "crop": 96, "images": 12}
Logit = Callable[[int], float]
"""The score of an image by its place in the list of all."""


def write_run(folder: Path, lines: Sequence[dict[str, Any]] = LINES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_evaluation(
    folder: Path, scored: list[ScoredImage], decision: Decision | None = None, **facts: Any
) -> Path:
    """The files that an evaluation with these scores leaves."""
    decision = decision or Decision()
    found = report_on(scored, decision, Bootstrap(resamples=20))
    about = FACTS | {"images": len(scored), "rejected": {}} | facts
    table = table_of(found or decision, scored, {})
    write_results(open_store(str(folder)), scored, [], found or decision, table, about)
    return folder


def scored_of(data: Path | str, logit: Logit, **options: Any) -> tuple[list[ScoredImage], dict[str, Any]]:
    """Scores of what lies at a place, as if a detector had given them; and the facts beside them."""
    config = EvaluateConfig(checkpoint="best.pt", data=str(data), **options)
    scored = [
        ScoredImage(
            name=one.name, group=one.group, label=one.label, logit=logit(place), photograph=one.photograph
        )
        for place, one in enumerate(source_of(config).listed)
    ]
    inputs = {name: getattr(config, name) for name in INPUTS}
    return scored, {"data": str(data), "crop": config.crop, "inputs": inputs}


def report(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: object) -> int:
    """Runs the command on ``run`` and ``eval`` of a folder; returns its status."""
    options = {
        "run": folder / "run",
        "evaluation": folder / "eval",
        "out": folder / "out/report.md",
    } | changes
    return run(monkeypatch, main, *(f"--{name}={value}" for name, value in options.items()))


class Page(HTMLParser):
    """What a browser would find in a page: its elements, its text, its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        """Cells of all rows of tables."""
        self.text = ""
        self._is_in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._is_in_cell = True
        if tag == "div" and self._is_in_cell and self.rows[-1][-1]:
            self.rows[-1][-1] += " "  # the second line of a cell

    def handle_endtag(self, tag: str) -> None:
        self._is_in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.elements[-1:] and self.elements[-1][0] == "style":
            return
        self.text += data
        if self._is_in_cell:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.elements if found == tag]
