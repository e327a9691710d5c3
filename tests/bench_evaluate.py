"""Images a second of the evaluation, beside an earlier build, in one run.

    python tests/bench_evaluate.py --before fcb05d0 --images 200 --rounds 5

Clones this repository at the earlier commit into a temporary folder and evaluates the same JPEG photographs
with the small detector by both builds in turn, each in a warm process of its own, on the CPUs that this
process may use. Prints medians over the rounds: images/s, CPU seconds an image, and their ratios; and
whether the two tables of scores agree.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import photograph, save
from scored_images import save_untrained

ROOT = Path(__file__).parents[1]
_SCRIPT = """
import json, os, sys, time
try:
    from train.evaluation.evaluate import EvaluateConfig, evaluate
except ModuleNotFoundError:  # earlier, it lay in one file
    from train.evaluate import EvaluateConfig, evaluate

def run(data, out):
    evaluate(EvaluateConfig(checkpoint=sys.argv[1], data=data, out=out, device="cpu"))

run(sys.argv[2], sys.argv[4] + "-warm")
for line in sys.stdin:
    wall, cpu = time.perf_counter(), sum(os.times()[:2])
    run(sys.argv[3], sys.argv[4])
    print(json.dumps([time.perf_counter() - wall, sum(os.times()[:2]) - cpu]), flush=True)
"""


def write_photographs(folder: Path, count: int) -> None:
    """Real and fake halves, 500x375, from a few different photographs."""
    pictures = [photograph(375, 500, number) for number in range(8)]
    for number in range(count):
        half = ("0_real", "1_fake")[number % 2]
        save(folder / half / f"{number:05}.jpg", pictures[number % 8], quality=90)


class Build:
    """A process of the build at `root`, warm."""

    def __init__(self, root: Path, checkpoint: Path, work: Path, out: Path) -> None:
        arguments = [checkpoint, work / "warm", work / "set", out]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, *map(str, arguments)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def timed(self) -> tuple[float, float]:
        """Wall and CPU seconds of one evaluation."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        wall, cpu = json.loads(self.process.stdout.readline())
        return wall, cpu


def logits(out: Path) -> list[float]:
    """The scores of an evaluation."""
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["logit"]) for row in csv.DictReader(file)]


def main() -> None:
    """Runs both builds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", default="fcb05d0")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        earlier = work / "earlier"
        subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(earlier)], check=True)
        subprocess.run(["git", "checkout", "-q", options.before], cwd=earlier, check=True)
        write_photographs(work / "set", options.images)
        write_photographs(work / "warm", 8)
        checkpoint = work / "best.pt"
        save_untrained(checkpoint)
        roots = {options.before: earlier, "this build": ROOT}
        builds = {build: Build(root, checkpoint, work, work / build) for build, root in roots.items()}
        found: dict[str, list[tuple[float, float]]] = {build: [] for build in builds}
        for round_ in range(options.rounds):
            for build, process in builds.items():
                found[build].append(process.timed())
                wall, cpu = found[build][-1]
                sys.stdout.write(f"round {round_ + 1}, {build}: {options.images / wall:.1f} images/s, ")
                sys.stdout.write(f"{1e3 * cpu / options.images:.1f} ms of CPU an image\n")
                sys.stdout.flush()
        walls, cpus = (
            {build: statistics.median(one[column] for one in rows) for build, rows in found.items()}
            for column in (0, 1)
        )
        for build in builds:
            sys.stdout.write(
                f"{build}: median {options.images / walls[build]:.1f} images/s, "
                f"{1e3 * cpus[build] / options.images:.1f} ms of CPU an image\n"
            )
        ratios = [
            before / now for before, now in ((x[options.before], x["this build"]) for x in (walls, cpus))
        ]
        sys.stdout.write(
            f"{ratios[0]:.2f} times the images/s, {ratios[1]:.2f} times the images a CPU second\n"
        )
        for process in builds.values():
            process.process.communicate()
        pairs = zip(*(logits(work / build) for build in builds), strict=True)
        sys.stdout.write(f"largest difference of a logit: {max(abs(a - b) for a, b in pairs):.2g}\n")


if __name__ == "__main__":
    main()
