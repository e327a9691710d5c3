"""A rank of a run on several nodes: ``-m node_rank FOLDER OPTIONS...``

It records the keys of each step in FOLDER, and takes its time until the test writes FOLDER/hurry.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from train.command import main

PACE_S = 0.25


def record(folder: Path) -> None:
    """Writes each step that this rank has done; ranks that start together meet at a port of their own."""
    from train.loop.trainee import Trainee

    path = folder / f"{os.environ['MASTER_PORT']}-{os.environ['RANK']}.jsonl"
    original = Trainee.step

    def step(self: Trainee, batch: Any, number: int, **more: Any) -> Any:
        result = original(self, batch, number, **more)
        with path.open("a") as file:
            file.write(json.dumps([time.monotonic(), number, batch.keys]) + "\n")
        if not (folder / "hurry").exists():
            time.sleep(PACE_S)
        return result

    Trainee.step = step  # type: ignore[method-assign]


def starts(folder: Path) -> list[dict[int, list[str]]]:
    """The keys of each step in each start of the ranks, in the order of the starts."""
    found: dict[str, tuple[float, dict[int, list[str]]]] = {}
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            when, number, keys = json.loads(line)
            first, steps = found.get(path.stem.split("-")[0], (when, {}))
            steps.setdefault(number, []).extend(keys)
            found[path.stem.split("-")[0]] = min(first, when), steps
    return [steps for _, steps in sorted(found.values(), key=lambda start: start[0])]


def epochs(folder: Path, steps: int) -> list[list[str]]:
    """The sorted keys of each epoch of `steps` steps that the weights have seen: what a later start has done
    again stands in place of what the one before it had done."""
    seen: dict[int, list[str]] = {}
    for start in starts(folder):
        seen = {number: keys for number, keys in seen.items() if number < min(start)} | start
    assert sorted(seen) == list(range(len(seen))), "a step is missing"
    in_turn = [seen[number] for number in range(len(seen))]
    chunks = [in_turn[first : first + steps] for first in range(0, len(in_turn), steps)]
    return [sorted(key for step in chunk for key in step) for chunk in chunks]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        record(Path(sys.argv.pop(1)))
    main()
