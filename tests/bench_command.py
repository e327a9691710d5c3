"""How the benchmarks run the product's commands."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_module(module: str, *arguments: object, finds: bool = False) -> None:
    """Runs ``python -m`` in the repository; a failure ends the benchmark.

    Args:
        module: of the product.
        arguments: of its command.
        finds: its status 1 says that it found something, and is no failure.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status and not (finds and status == 1):
        raise SystemExit(f"{module} ended with status {status}")
