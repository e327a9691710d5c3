"""Every command, with every place that it takes broken in every way, ends with one line and status 2."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_places import FILES, FOLDERS, INPUTS, no_pipe_opened
from command_lines import LINES, Line, main_of, signals_stay, write_places
from conftest import run
from test_layout import COMMANDS

from recon.base.paths import printable

FEW = {name: INPUTS[name] for name in ("no permission inside", "name too long", "not UTF-8", "pipe")}
INSIDE = {
    ("pack.verify", "packed"),
    ("recon", "model"),
    ("train.compare", "eval"),
    ("train.report", "curves"),
    ("train.report", "log"),
}
"""Lines with a folder in which any file may be a pipe."""
KINDS = {"input": INPUTS, "more": FEW, "folder": FOLDERS, "file": FILES}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole places; to be read only."""
    folder = tmp_path_factory.mktemp("whole")
    write_places(folder)
    for command in COMMANDS:
        main_of(command)
    gc.collect()
    gc.freeze()  # each training ends with a collection, which takes long with all that is imported
    return folder


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    yield from signals_stay()


def test_every_command_is_tried() -> None:
    assert {line.command for line in LINES} == set(COMMANDS)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_broken_place_is_one_line_with_status_2(
    line: Line,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suffix = os.path.splitext(line.whole)[1]
    for number, (broken, make) in enumerate(KINDS[line.kind].items()):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        place, failing = make(folder, base / line.whole if line.is_read else None, suffix)
        with failing, no_pipe_opened():
            status = run(monkeypatch, main_of(line.command), *line.argv(place, base, folder / "new"))
        said = capsys.readouterr().err
        case = f"{line} with a place that is broken ({broken}) said: {said[:300]}"
        assert status == 2, case
        assert said.startswith("error: "), case
        assert said.count("\n") == 1, case
        assert folder.name in said, case
        assert printable(said) == said, case
        if broken in ("pipe", "socket"):
            assert "pipe, a socket or a device" in said, case


@pytest.mark.parametrize("line", [line for line in LINES if (line.command, line.whole) in INSIDE], ids=str)
def test_a_pipe_inside_a_place_is_never_opened(
    line: Line,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = base / line.whole
    files = [path.relative_to(whole) for path in whole.rglob("*.*") if path.suffix != ".md"]  # no data
    for number, file in enumerate(files):
        place = tmp_path / f"case{number}"
        shutil.copytree(whole, place)
        (place / file).unlink()
        os.mkfifo(place / file)
        with no_pipe_opened():
            status = run(monkeypatch, main_of(line.command), *line.argv(place, base, tmp_path / "new"))
        said = capsys.readouterr().err
        assert said.count("\n") == (status == 2), (file, said)
