"""A small grid, and runs of ``train.robustness`` with it."""

import csv
import json
from pathlib import Path
from typing import Any

from train.evaluation.robust.robustness import RobustnessConfig, robustness

GRID = """
jpeg:
  - jpeg: {quality: [90, 40]}
chain:
  - resize: {factor: [.5, .25], resampler: [box, lanczos]}
  - jpeg: {quality: 75}
noise:
  - noise: {sigma: 4}
"""
CELLS = 8
QUARTERS = ("chain factor=0.25 resampler=box", "chain factor=0.25 resampler=lanczos")


def config_of(checkpoint: str, data: Path, out: Path, **options: Any) -> RobustnessConfig:
    grid = data.parent / "small.yaml"
    grid.write_text(GRID)
    given = {"device": "cpu", "grid": str(grid), "resamples": 20, **options}
    return RobustnessConfig(checkpoint=checkpoint, data=str(data), out=str(out), **given)


def run_small(checkpoint: str, data: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Runs the grid, and returns robustness.json."""
    robustness(config_of(checkpoint, data, out, **options))
    found: dict[str, Any] = json.loads((out / "robustness.json").read_text())
    return found


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return list(csv.DictReader(opened))


def cell_of(facts: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [cell for cell in facts["cells"] if cell["cell"] == name]
    return dict(found)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}
