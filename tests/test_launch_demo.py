"""The demo replaces what it made itself, and touches no other folder."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def demo(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the script from `folder` up to its first call of Python, which fails with status 7."""
    (folder / "python").write_text("#!/bin/sh\nexit 7\n")
    (folder / "python").chmod(0o755)
    return subprocess.run(
        ["bash", str(ROOT / "launch/demo.sh"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(folder / "python")},
        check=False,
    )


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_the_demo_deletes_no_folder_that_it_did_not_make(tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "theirs/.hidden"
    precious.parent.mkdir()
    precious.write_text("precious")
    ended = demo(tmp_path, precious.parent if kind == "absolute" else "theirs")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {precious.parent} holds files that the demo did not make")
    assert ended.stderr.count("\n") == 1
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("there", [False, True])
def test_a_missing_or_empty_folder_is_taken_and_replaced_the_next_time(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "a b/mine"
    if there:
        out.mkdir(parents=True)
    assert demo(tmp_path, "a b/mine").returncode == 7
    assert (out / "photographs").is_dir()
    (out / "old").write_text("")
    assert demo(tmp_path, out).returncode == 7
    assert not (out / "old").exists()
    assert (out / "photographs").is_dir()


def test_a_file_is_no_place_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ended = demo(tmp_path, "file")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "is a link or a file, expected a folder" in ended.stderr
    assert (tmp_path / "file").read_text() == "mine"
