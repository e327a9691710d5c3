"""A small grid, and runs of ``train.robustness`` with it."""

import csv
import json
import os
import sys
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


def run_forked(options: list[str], output: str, variables: dict[str, str]) -> None:
    """The command, in a process that was forked to be a rank: two images a part; it writes to two files."""
    from train import robustness as command
    from train.evaluation.work import parts

    for number, name in ((1, output), (2, str(Path(output).with_suffix(".err")))):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.update(variables)
    parts.PART = 2 * CELLS
    sys.argv = ["train.robustness", *options]
    command.main()


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return list(csv.DictReader(opened))


def cell_of(facts: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [cell for cell in facts["cells"] if cell["cell"] == name]
    return dict(found)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}
