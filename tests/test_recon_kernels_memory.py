"""No kernel uses memory after it was freed: `pointer` does not hold the array that it points to."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import python

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for path in sorted(ROOT.glob("recon/**/*.py")) + sorted(ROOT.glob("train/**/*.py"))
    if re.search(r"\bpointer\(", path.read_text()) and path.name != "compiled.py"
]
LOOP = ast.For | ast.While


def _named(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _pointed(function: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    """Names of arrays that may be the function's own, and the lines in which pointers to them are taken."""
    own = {
        one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "pointer":
            array = node.args[0]
            if isinstance(array, ast.Name) and array.id in own:
                yield array.id, node.lineno


def freed_too_early(source: str) -> list[str]:
    """Arrays of functions that nothing names in, or behind, the last loop after their pointer was taken."""
    found = []
    for function in (one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.FunctionDef)):
        for name, line in _pointed(function):
            after = [one for one in function.body if (one.end_lineno or 0) + isinstance(one, LOOP) > line]
            loops = [place for place, one in enumerate(after) if isinstance(one, LOOP)]
            behind = after[loops[-1] :] if loops else after
            if not any(name in _named(one) for one in behind):
                found.append(f"{function.name}: {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_arrays_live_as_long_as_pointers_to_them(path: Path) -> None:
    assert freed_too_early(path.read_text()) == []


def test_an_array_that_is_freed_before_the_loop_is_found() -> None:
    kernel = """
def kernel(given, out):
    own, other = made(), made()
    a, b, c = pointer(own), pointer(other), pointer(given)
    for i in range(9):
        c[i] = a[i] + b[i] + other.size
"""
    assert len(FILES) > 4
    assert freed_too_early(kernel) == ["kernel: own"]
    assert freed_too_early(f"{kernel}    kept((own,))\n") == []


def test_kernels_compute_the_same_where_freed_memory_is_overwritten() -> None:
    """glibc overwrites what is freed if this variable is set; elsewhere the test only runs once more."""
    script = """
import sys
sys.path.insert(0, "tests")
import test_recon_jpeg, test_recon_resample
for width in range(1, 10):
    test_recon_resample.test_a_part_narrower_than_what_is_summed_at_once_is_pillows(width)
for sampling in test_recon_jpeg.SAMPLINGS:
    test_recon_jpeg.test_each_part_of_a_larger_photograph_is_right(sampling, 0)
"""
    found = python(script, env={**os.environ, "MALLOC_PERTURB_": "165"})
    assert found.returncode == 0, found.stderr
