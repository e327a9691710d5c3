"""The report: its facts, table and links, and curves that are a picture."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from train.evaluation.report import draw_curves, main, read_history

VAL: dict[str, Any] = {"auc": 0.9, "ap": 0.9, "balanced_accuracy": 0.8}
LINES: list[dict[str, Any]] = [
    {"step": 10, "epoch": 0, "loss": 0.7, "lr": 0.001},
    {"step": 20, "epoch": 0, "loss": None, "lr": 0.001, "left_out": 10},
    {"step": 20, "epoch": 0, "val": VAL},
    {"step": 30, "epoch": 1, "loss": 0.25, "lr": 0.001},
    {"step": 40, "epoch": 1, "val": VAL | {"auc": None, "balanced_accuracy": None}},
]
FACTS = {"backbone": "highpass", "checkpoint": "run/best.pt", "data": "held/out", "crop": 96, "images": 12}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "eval").mkdir()
    (tmp_path / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (tmp_path / "eval/metrics.json").write_text(json.dumps(FACTS))
    (tmp_path / "eval/table.md").write_text("| group |\n| --- |\n| overall |\n")
    (tmp_path / "pre view.png").write_bytes(b"a picture")
    return tmp_path


def report(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> int:
    options = {
        "run": str(folder / "run"),
        "evaluation": str(folder / "eval"),
        "out": str(folder / "out/report.md"),
    } | changes
    monkeypatch.setattr(sys, "argv", ["x", *(f"--{name}={value}" for name, value in options.items())])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_report_has_facts_table_and_links_that_resolve(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(folder, monkeypatch, preview=str(folder / "pre view.png"), title="Demo") == 0
    text = (folder / "out/report.md").read_text()
    assert text.startswith("# Demo\n\n`highpass` trained in ")
    assert "epoch 1, step 30, loss 0.250." in text
    assert "12 centre crops of 96 pixels of `held/out`" in text
    assert "| group |\n| --- |\n| overall |" in text
    assert "(../pre%20view.png)" in text
    assert "(curves.png)" in text
    height, width, _ = decode_rgb((folder / "out/curves.png").read_bytes()).shape
    assert (width, height) == (1100, 396)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["curves.png", "report.md"]


def test_a_report_needs_no_preview(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report(folder, monkeypatch) == 0
    assert (folder / "out/report.md").read_text().count("![") == 1


def test_curves_can_be_drawn_before_any_validation(folder: Path) -> None:
    path = folder / "run/metrics.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n")
    history = read_history(path)
    assert (len(history.training), len(history.validation)) == (1, 0)
    draw_curves(history, folder / "curves.png")
    assert (folder / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"run": "gone"}, "gone/metrics.jsonl can't be read: No such file"),
        ({"evaluation": "gone"}, "gone/table.md can't be read"),
        ({"preview": "gone.png"}, "preview=gone.png: no such file"),
        ({"out": "/proc/none/report.md"}, "can't write /proc/none"),
    ],
)
def test_what_is_missing_is_named_with_status_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    complaint: str,
) -> None:
    assert report(folder, monkeypatch, **changes) == 2
    assert complaint in capsys.readouterr().err
    assert not (folder / "out/report.md").exists()


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"step": 1}', '{"step": 1, "epoch": 0, "val": {}}'])
def test_a_line_that_no_run_wrote_is_named(folder: Path, line: str) -> None:
    path = folder / "run/metrics.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2: expected step and epoch"):
        read_history(path)


@pytest.mark.parametrize("name", ["run/metrics.jsonl", "eval/table.md"])
def test_a_file_that_is_no_text_is_named_with_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / name).write_bytes(b"\xff\xfe")
    assert report(folder, monkeypatch) == 2
    assert f"{name} is not text in UTF-8" in capsys.readouterr().err


def test_a_run_without_steps_is_refused(folder: Path) -> None:
    path = folder / "run/metrics.jsonl"
    path.write_text("")
    with pytest.raises(UserError, match="holds no training step"):
        read_history(path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"backbone": "x"}'])
def test_an_evaluation_that_is_none_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (folder / "eval/metrics.json").write_text(content)
    assert report(folder, monkeypatch) == 2


def test_missing_matplotlib_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install pairstream\[plot\]"):
        draw_curves(read_history(folder / "run/metrics.jsonl"), folder / "curves.png")
