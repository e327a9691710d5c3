"""The cheapest of `make test-cpus`: equal bits on another kind of processor, and failures told."""

import subprocess
import sys
from pathlib import Path

import pytest
import run_cpus

ROOT = Path(__file__).parents[1]


def run_in(environment: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tests/run_cpus.py", "-e", environment, "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("environment", ["ATEN_CPU_CAPABILITY=default", "OMP_NUM_THREADS=2"])
def test_pixels_and_scores_are_equal_on_another_kind_of_processor(environment: str) -> None:
    halves = "tests/test_train_null.py::test_both_halves_have_equal_"
    ended = run_in(environment, f"{halves}pixels", f"{halves}logits", "tests/test_train_blur.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].startswith(f"{environment:30} passed")


def test_failures_are_told_in_the_table_and_by_the_status(tmp_path: Path) -> None:
    file = tmp_path / "test_false.py"
    file.write_text("import pytest\n@pytest.mark.bits\ndef test_it(): assert not 1\n")
    ended = run_in("OMP_NUM_THREADS=1", str(file))
    assert ended.returncode == 1
    row, failed = ended.stdout.splitlines()[-2:]
    assert row.startswith("OMP_NUM_THREADS=1              failed")
    assert "1 failed" in row
    assert "test_false.py::test_it" in failed


def test_environments_set_one_variable_each() -> None:
    assert len(set(run_cpus.ENVIRONMENTS)) == len(run_cpus.ENVIRONMENTS)
    assert all(len(one.split("=")) == 2 for one in run_cpus.ENVIRONMENTS)
