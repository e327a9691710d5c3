"""Seconds of an optimizer step, beside an earlier build, in one run.

    python tests/bench_step.py --before 829f57d --rounds 9

Clones this repository at the earlier commit into a temporary folder. Both builds, each in a process of its
own, train the small detector on the same 32 pairs of random 96x96 crops, in turn. Prints medians over the
rounds: wall and CPU milliseconds of a step, and their ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
_STEPS = 20
_SCRIPT = """
import inspect, json, os, sys, time
import torch
from train.loader.transfer import Batch
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import Trainee
from train.model.build import build_model
from train.model.config import ModelConfig
from train.world.world import open_world

pairs = torch.randint(0, 256, (32, 2, 3, 96, 96), dtype=torch.uint8)
more = {"valid": pairs} if "valid" in inspect.signature(Batch).parameters else {}
batch = Batch(images=pairs, mask=torch.ones(32, dtype=torch.bool), keys=list("x" * 32), **more)
config = TrainConfig(out="unused", data=DataConfig(train="unused"), model=ModelConfig(backbone="highpass"))
with open_world("cpu") as world:
    trainee = Trainee(build_model(config.model), config, world)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), sum(os.times()[:2])
        for number in range(int(line)):
            trainee.step(batch, number).loss_sum
        print(json.dumps([time.perf_counter() - wall, sum(os.times()[:2]) - cpu]), flush=True)
"""


class Build:
    """A process of the build at `root`."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-c", _SCRIPT]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True)

    def timed(self, steps: int) -> list[float]:
        """Wall and CPU milliseconds of a step."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return [1e3 * seconds / steps for seconds in json.loads(self.process.stdout.readline())]


def main() -> None:
    """Runs both builds and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", default="829f57d")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), name], check=True)
        subprocess.run(["git", "checkout", "-q", options.before], cwd=name, check=True)
        builds = {options.before: Build(Path(name)), "this build": Build(ROOT)}
        for build in builds.values():
            build.timed(3)
        rounds = [[build.timed(_STEPS) for build in builds.values()] for _ in range(options.rounds)]
        for place, build in enumerate(builds):
            wall, cpu = (statistics.median(one[place][column] for one in rounds) for column in (0, 1))
            sys.stdout.write(f"{build}: median {wall:.1f} ms a step, {cpu:.1f} ms of CPU\n")
        ratios = [statistics.median(one[1][column] / one[0][column] for one in rounds) for column in (0, 1)]
        sys.stdout.write(f"this build takes {ratios[0]:.3f} of the time, {ratios[1]:.3f} of the CPU time\n")
        for build in builds.values():
            build.process.communicate()


if __name__ == "__main__":
    main()
