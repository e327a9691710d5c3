"""The cache of compiled kernels: whatever a file of it holds, the kernel runs."""

import logging
import runpy
from pathlib import Path
from typing import Any

import numba
import pytest

from recon.kernels import compiled

MODULE = (
    "from recon.kernels.compiled import kernel\n"
    "@kernel('i8(i8)')\n"
    "def twice(number):\n"
    "    return 2 * number\n"
)
TOLD = "compiling doubling for this CPU: some seconds, once on this machine"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """A module with a kernel, compiled once."""
    monkeypatch.setattr(compiled, "_TOLD", set())
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")  # beside the module, whatever the environment says
    caplog.set_level(logging.INFO)
    (tmp_path / "doubling.py").write_text(MODULE)
    return tmp_path / "doubling.py"


def loaded(module: Path) -> Any:
    """The kernel as a new process would load it."""
    made = runpy.run_path(str(module), run_name="doubling")["twice"]
    assert made(21) == 42
    return made.stats


def test_compiling_is_told_once_and_loading_is_not(module: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert loaded(module).cache_misses
    assert caplog.messages == [TOLD]
    assert loaded(module).cache_hits
    assert caplog.messages == [TOLD]


def test_a_kernel_is_compiled_anew_when_its_file_or_what_kernels_import_changes(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(module)
    assert loaded(module).cache_hits
    monkeypatch.setattr(compiled, "_folder_stamp", lambda: "another")
    assert loaded(module).cache_misses
    assert loaded(module).cache_hits
    module.write_text(MODULE.replace("2 * number", "number + number"))
    assert loaded(module).cache_misses


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_file_is_compiled_anew_once(module: Path, kind: str, kept: float) -> None:
    loaded(module)
    (file,) = (module.parent / "__pycache__").glob(f"doubling.twice*.{kind}")
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    assert loaded(module).cache_misses
    assert loaded(module).cache_hits


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("recon.kernels.entropy", "the JPEG decoder"),
        ("recon.kernels.resample", "resizing"),
        ("train.ops.cpu.blur", "the augmentations"),
    ],
)
def test_compiling_names_what_is_compiled(
    module: Path, caplog: pytest.LogCaptureFixture, name: str, what: str
) -> None:
    for _ in range(2):
        runpy.run_path(str(module), run_name=name)
    assert caplog.messages == [TOLD.replace("doubling", what)]
