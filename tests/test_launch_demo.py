"""The launchers refuse mistakes before they act: the demo deletes nothing that it did not make."""

import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from pack_runs import config

from pack.sources.find import find_items

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


@pytest.mark.parametrize("arguments", [("one", "two"), ("--out",)])
def test_arguments_that_the_demo_does_not_take_are_refused(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ended = demo(tmp_path, *arguments)
    assert ended.returncode == 2
    assert "error: expected no argument or one folder" in ended.stderr
    assert not list(tmp_path.glob("--*"))


def test_the_demo_shows_its_help(tmp_path: Path) -> None:
    ended = demo(tmp_path, "--help")
    assert ended.returncode == 0
    assert "launch/demo.sh [OUT]" in ended.stderr


def test_a_link_is_no_place_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert demo(tmp_path, "link").returncode == 2
    assert (tmp_path / "link").is_symlink()


def test_the_report_of_the_demo_says_of_its_photographs_what_is_true(tmp_path: Path) -> None:
    found = find_spec("skimage")
    assert found
    assert found.origin
    packages = Path(found.origin).parents[1]
    (tmp_path / "python").write_text(f"#!/bin/sh\n[ $1 = -c ] && echo '{packages}' && exit 0\nexit 7\n")
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "python")}
    script = ROOT / "launch/demo.sh"
    subprocess.run(["bash", script, tmp_path / "out"], env=environment, check=False, capture_output=True)
    options = dict(re.findall(r"--(tile|tile_stride|val_fraction) ([\d.]+)", script.read_text("utf-8")))
    numbers = {
        name: float(value) if name == "val_fraction" else int(value) for name, value in options.items()
    }
    items = find_items(config(tmp_path / "out/photographs", tmp_path / "x", autoencoder="tiny", **numbers))
    tiles = Counter(item.real.name for item in items["val"])
    assert (len(tiles), tiles.total()) == (3, 130)
    assert sum(name.endswith(".jpg") for name in tiles) == 2
    text = script.read_text("utf-8")
    assert "tiles of three photographs" in text
    assert "three cases \\\nrather than 130" in text
    assert "Two of the \\\nthree photographs are JPEG files" in text


def test_the_demo_finds_its_photographs_wherever_packages_with_compiled_code_lie(tmp_path: Path) -> None:
    (tmp_path / "platlib/skimage").mkdir(parents=True)
    (tmp_path / "platlib/skimage/__init__.py").write_text("")
    line = re.search(r"^packages=.*", (ROOT / "launch/demo.sh").read_text("utf-8"), re.MULTILINE)
    assert line
    ended = subprocess.run(
        ["bash", "-c", f'{line[0]}; cd "$packages" && pwd'],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path / "platlib")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"{tmp_path}/platlib\n"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"NNODES": "abc"}, "NNODES=abc, expected"),
        ({"NNODES": "2"}, "needs RDZV_ID"),
        ({"NNODES": "2", "RDZV_ID": "a"}, "needs RDZV_ENDPOINT"),
        ({"NPROC_PER_NODE": "x"}, "NPROC_PER_NODE=x, expected"),
        ({"MAX_RESTARTS": "many"}, "MAX_RESTARTS=many, expected"),
    ],
)
def test_mistyped_variables_of_the_launcher_are_one_line(variables: dict[str, str], told: str) -> None:
    ended = subprocess.run(
        ["bash", str(ROOT / "launch/torchrun.sh")],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: ")
    assert told in ended.stderr
