"""The report: its facts, table and links, and curves that are a picture."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from report_folders import FACTS, LINES, Page, report, write_run
from scored_images import png, put

from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from train.reports.command import ReportConfig, contents_of
from train.reports.inputs.run_log import History, read_history
from train.reports.training import draw_curves, training_section


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "run")
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/metrics.json").write_text(json.dumps(FACTS))
    (tmp_path / "eval/table.md").write_text("| group |\n| --- |\n| overall |\n")
    put(tmp_path / "pre view.png", png(1))
    return tmp_path


def test_a_report_has_facts_table_and_links_that_resolve(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(monkeypatch, folder, preview=str(folder / "pre view.png"), title="Demo") == 0
    text = (folder / "out/report.md").read_text()
    assert "12 centre crops of 96 pixels of `held/out`" in text
    assert "| group |\n| --- |\n| overall |" in text
    assert "(../pre%20view.png)" in text
    assert "(curves.png)" in text
    height, width, _ = decode_rgb((folder / "out/curves.png").read_bytes()).shape
    assert (width, height) == (1100, 396)
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "curves.png",
        "report.html",
        "report.md",
    ]


def test_a_report_tells_what_was_scored_and_where_the_run_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(folder)
    assert report(monkeypatch, folder, run="run", title="Demo") == 0
    text = (folder / "out/report.md").read_text()
    assert text.startswith("# Demo\n\nScored by `run/best.pt` (`highpass`): 12 ")
    assert "The run `run` ends in epoch 1 at step 40, last logged loss 0.250." in text
    page = Page((folder / "out/report.html").read_text("utf-8"))
    assert "highpass, run/best.pt" in page.text
    assert "run ends in epoch 1 at step 40, last logged loss 0.250" in page.text
    assert "not of this run" not in text + page.text + caplog.text


def test_title_and_note_are_text_in_markdown_whatever_they_hold(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "See <b>this</b>\n\n[here](x), caf\udce9"
    assert report(monkeypatch, folder, title="<script>a_b[1]", note=note) == 0
    text = (folder / "out/report.md").read_text("utf-8")
    expected = "# \\<script>a\\_b\\[1]\n\nSee \\<b>this\\</b>\n\n\\[here](x), caf\\\\xe9\n\n"
    assert text.startswith(expected)


@pytest.mark.parametrize("checkpoint", ["runner/best.pt", "timm:resnet18", "s3://bucket/run/best.pt"])
def test_a_detector_of_another_run_is_told_in_both_files_and_in_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, checkpoint: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "eval/metrics.json").write_text(json.dumps(FACTS | {"checkpoint": checkpoint}))
    assert report(monkeypatch, folder, run="run") == 0
    told = f"The scored detector is not of this run: {checkpoint} does not lie in run"
    text = (folder / "out/report.md").read_text()
    assert f"**{told}.**" in text
    assert "trained in" not in text
    assert told in Page((folder / "out/report.html").read_text("utf-8")).text
    assert told in caplog.text


def test_a_detector_is_of_its_run_however_the_places_are_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "link").symlink_to("run")
    for run in ("run/", "./run", "link", str(folder / "run"), f"file://{folder}/run"):
        config = ReportConfig(run=run, evaluation="eval")
        assert contents_of(config).mismatch is None, run


def test_a_detector_of_a_run_that_was_moved_is_known_by_its_checksum(folder: Path) -> None:
    config = ReportConfig(run=str(folder / "run"), evaluation=str(folder / "eval"))
    for content, is_ours in ((b"weights", True), (b"others", False)):
        facts = FACTS | {"checkpoint": "gone/best.pt", "checkpoint_sha256": sha256(content).hexdigest()}
        (folder / "eval/metrics.json").write_text(json.dumps(facts))
        (folder / "run/best.pt").write_bytes(b"weights")
        assert (contents_of(config).mismatch is None) == is_ours


def test_a_report_needs_no_preview(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report(monkeypatch, folder) == 0
    assert (folder / "out/report.md").read_text().count("![") == 1


def test_curves_can_be_drawn_before_any_validation(folder: Path) -> None:
    path = folder / "run/metrics.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n")
    history = read_history(str(folder / "run"))
    assert (len(history.training), len(history.validation)) == (1, 0)
    draw_curves(history, folder / "curves.png")
    assert (folder / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"run": "gone"}, "gone/metrics.jsonl can't be read: No such file"),
        ({"evaluation": "gone"}, "gone/table.md can't be read"),
        ({"preview": "gone.png"}, "preview=gone.png: no such file"),
        ({"out": "/proc/none/report.md"}, "can't write /proc/"),
    ],
)
def test_what_is_missing_is_named_with_status_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    complaint: str,
) -> None:
    assert report(monkeypatch, folder, **changes) == 2
    assert complaint in capsys.readouterr().err
    assert not (folder / "out/report.md").exists()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"no picture", "not a readable image"),
        (b"P6 2 2 255\n" + bytes(12), "is ppm"),
        (png(1)[:-30], "broken or truncated"),
    ],
    ids=["text", "ppm", "truncated"],
)
def test_a_preview_that_is_no_png_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    complaint: str,
) -> None:
    put(folder / "text.jpg", data)
    assert report(monkeypatch, folder, preview=folder / "text.jpg") == 2
    told = capsys.readouterr().err
    assert f"preview={folder / 'text.jpg'}" in told
    assert complaint in told
    assert "expected a PNG, as python -m pack.preview writes it" in told


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("robustness.json", "table.md"), "train.robustness (robustness.json); expected one of python -m "),
        (("compare.json", "metrics.json"), "train.compare (compare.json); expected one of python -m "),
    ],
)
def test_a_folder_of_another_command_is_named_as_such(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: tuple[str, ...],
    told: str,
) -> None:
    for name in files:
        put(folder / "other" / name, b"{}")
    assert report(monkeypatch, folder, evaluation=folder / "other") == 2
    assert f"evaluation={folder / 'other'} is a folder of python -m {told}" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["file/report.md", "eval"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    put(folder / "file", b"")
    monkeypatch.setattr("train.reports.command.contents_of", None)
    assert report(monkeypatch, folder, out=folder / out) == 2
    assert f"{folder / out.split('/')[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"step": 1}', '{"step": 1, "epoch": 0, "val": {}}'])
def test_a_line_that_no_run_wrote_is_named(folder: Path, line: str) -> None:
    path = folder / "run/metrics.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2: expected step and epoch"):
        read_history(str(folder / "run"))


@pytest.mark.parametrize("name", ["run/metrics.jsonl", "eval/table.md"])
def test_a_file_that_is_no_text_is_named_with_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / name).write_bytes(b"\xff\xfe")
    assert report(monkeypatch, folder) == 2
    assert f"{name} is not text in UTF-8" in capsys.readouterr().err


def test_a_run_without_steps_is_refused(folder: Path) -> None:
    path = folder / "run/metrics.jsonl"
    path.write_text("")
    with pytest.raises(UserError, match="holds no training step"):
        read_history(str(folder / "run"))


@pytest.mark.parametrize("content", ["{", "[1]", '{"backbone": "x"}'])
def test_an_evaluation_that_is_none_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (folder / "eval/metrics.json").write_text(content)
    assert report(monkeypatch, folder) == 2


def test_missing_matplotlib_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[plot\]'"):
        draw_curves(read_history(str(folder / "run")), folder / "curves.png")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, "whole images"),
        ({"crop": None, "view": "whole"}, "whole images"),
        ({"crop": 96}, "centre crops of 96 pixels"),  # an evaluation of an earlier version
        ({"crop": None, "view": "five:224"}, "images as five:224"),
    ],
)
def test_a_report_tells_what_was_scored_of_the_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], told: str
) -> None:
    file = folder / "eval/metrics.json"
    before = {name: value for name, value in json.loads(file.read_text()).items() if name != "crop"}
    file.write_text(json.dumps(before | facts))
    assert report(monkeypatch, folder) == 0
    assert f"12 {told} of `held/out`" in (folder / "out/report.md").read_text()


def test_a_report_is_not_written_over_a_picture_that_it_shows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = put(folder / "out/curves.png", png(1))
    before = shown.read_bytes()
    assert report(monkeypatch, folder, preview=shown) == 2
    assert "curves.png would be written over" in capsys.readouterr().err
    assert shown.read_bytes() == before


def test_names_that_are_not_utf_8_keep_their_bytes_in_the_markdown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = folder / os.fsdecode(b"caf\xe9")
    write_run(odd)
    assert report(monkeypatch, folder, run=odd) == 0
    assert b"/caf\xe9` ends in epoch" in (folder / "out/report.md").read_bytes()


def test_a_run_whose_validation_had_one_class_has_no_highest_auc() -> None:
    lines = [line for line in LINES if "val" not in line]
    one_class = {"step": 40, "epoch": 1, "val": {"auc": None, "ap": None, "balanced_accuracy": None}}
    history = History(training=lines, validation=[one_class])
    assert "highest AUC" not in training_section(history)
    better = one_class | {"epoch": 3, "val": {"auc": 0.25, "ap": 0.5, "balanced_accuracy": 0.5}}
    history = History(training=lines, validation=[one_class, better, {**better, "epoch": 4}])
    assert "; highest AUC 0.2500 in epoch 3<" in training_section(history)


def test_a_run_with_several_sets_has_a_curve_for_each() -> None:
    lines = [line for line in LINES if "val" not in line]
    summary = {"auc": 0.5, "ap": 0.5, "balanced_accuracy": 0.5}
    sets = {"far": {**summary, "auc": None}, "near": summary}
    validation = [{"step": 40, "epoch": epoch, "val": summary, "sets": sets} for epoch in range(2)]
    page = training_section(History(training=lines, validation=validation))
    assert page.count("AUC on far") == page.count("AUC on near") == 1
