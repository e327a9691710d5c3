"""How long a run takes from its command to its first step, for one or several checkouts of this package.

    python tests/bench_start.py data/mine/train --checkouts . ../older

Each checkout trains the small network of configs/cpu.yaml on the dataset until metrics.jsonl has its first
line, in turn, round by round; seconds, medians. A dataset that an older checkout cannot read is given behind
a colon: ``../older:data/older/train``. All checkouts use the interpreter that runs this.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPTIONS = ("--config", "configs/cpu.yaml", "--epochs", "1", "--log_every", "1", "--order.lanes", "32")


def first_step_s(checkout: Path, dataset: Path) -> float:
    """Seconds from the start of the command to the first line of metrics.jsonl."""
    with tempfile.TemporaryDirectory() as out:
        told = Path(out, "run", "metrics.jsonl")
        command = [
            sys.executable,
            "-m",
            "train",
            *OPTIONS,
            "--data.train",
            str(dataset),
            "--out",
            f"{out}/run",
        ]
        start = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not (told.exists() and told.stat().st_size):
                if process.poll() is not None:
                    sys.exit(
                        f"{checkout} ended with status {process.returncode}:\n{process.communicate()[1]}"
                    )
                time.sleep(0.005)
            taken = time.monotonic() - start
            process.kill()
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="local dataset of at least 64 pairs")
    parser.add_argument(
        "--checkouts", nargs="+", default=["."], help="folders, each FOLDER or FOLDER:DATASET"
    )
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    ways = {name: name.partition(":") for name in chosen.checkouts}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, (checkout, _, dataset) in ways.items():
            found[name].append(first_step_s(Path(checkout).resolve(), Path(dataset or chosen.url).resolve()))
    for name, each in found.items():
        sys.stdout.write(f"{name}: first step after {statistics.median(each):.2f} s\n")


if __name__ == "__main__":
    main()
