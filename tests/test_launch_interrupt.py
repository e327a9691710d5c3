"""Ctrl-C in a command that no launcher has started, while it imports and while it runs: no traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AT_IMPORT = """
import builtins, os, runpy, signal, sys
original = builtins.__import__
def interrupted(name, *rest, **more):
    if name == module:
        os.kill(os.getpid(), signal.SIGINT)
    return original(name, *rest, **more)
builtins.__import__ = interrupted
(_, module, command), sys.argv = sys.argv, ["command", "--help"]
runpy.run_module(command, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("command", ["train", "pack"])
@pytest.mark.parametrize(
    ("module", "status", "said"),
    [("recon.base.cli", -signal.SIGINT, ""), ("jsonargparse", 130, "error: interrupted\n")],
)
def test_ctrl_c_prints_no_traceback(command: str, module: str, status: int, said: str) -> None:
    words = [sys.executable, "-c", AT_IMPORT, module, command]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ended.returncode, ended.stderr) == (status, said)
