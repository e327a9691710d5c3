"""Runs the tests that claim equal bits as on other kinds of processors.

python tests/run_cpus.py [-e NAME=VALUE]... [PYTEST OPTIONS]

Libraries choose their code by the instructions that a processor has. Each environment below takes some away,
or changes the number of threads; the tests marked `bits` must hold in every one. A table at the end says how
each ended, and the status is 1 if any failed. On a processor that lacks AVX-512 the limits to AVX2 change
nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = (
    "OMP_NUM_THREADS=1",
    "OMP_NUM_THREADS=2",
    "ATEN_CPU_CAPABILITY=default",
    "ATEN_CPU_CAPABILITY=avx2",
    "ONEDNN_MAX_CPU_ISA=AVX2",
    "MKL_ENABLE_INSTRUCTIONS=AVX2",
    "NUMBA_CPU_NAME=generic",
)
PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")


@dataclass(frozen=True)
class Result:
    """How the tests ended in one environment."""

    environment: str
    status: int
    seconds: float
    lines: list[str]

    @property
    def failed(self) -> list[str]:
        return [line for line in self.lines if line.startswith(("FAILED ", "ERROR "))]

    @property
    def row(self) -> str:
        """Of the table; the last line of pytest counts the tests."""
        verdict = "failed" if self.status else "passed"
        return f"{self.environment:30} {verdict:7} {self.seconds:6.0f} s  {''.join(self.lines[-1:])}"


def run(environment: str, options: Sequence[str]) -> Result:
    """Runs the tests, showing what pytest says."""
    name, _, value = environment.partition("=")
    print(f"== {environment}", flush=True)
    started, lines = time.monotonic(), []
    with tempfile.TemporaryDirectory() as cache:
        apart = {"NUMBA_CACHE_DIR": cache} if name.startswith("NUMBA") else {}
        variables = {"OMP_NUM_THREADS": "1", **os.environ, name: value, **apart}
        command = [sys.executable, "-m", "pytest", "-m", "bits and not soak", *options]
        with subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        ) as pytest:
            assert pytest.stdout
            for line in pytest.stdout:
                sys.stdout.write(line)
                lines.append(line.rstrip())
    return Result(environment, pytest.returncode, time.monotonic() - started, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-e", "--environment", action="append", metavar="NAME=VALUE", help="in place of all")
    chosen, options = parser.parse_known_args(argv)
    results = [run(one, options or PARALLEL) for one in chosen.environment or ENVIRONMENTS]
    print()
    for one in results:
        print(one.row, *(f"    {line}" for line in one.failed), sep="\n")
    return int(any(one.status for one in results))


if __name__ == "__main__":
    sys.exit(main())
