"""How the benchmarks run the product's commands."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_module(module: str, *arguments: object) -> None:
    """Runs ``python -m`` in the repository; a failure ends the benchmark."""
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, check=True)
