"""Evaluation as people use it: what is left out, whose word counts, names that no encoding has."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import run
from scored_images import png, put, save_untrained, untrained  # noqa: F401  # a fixture

from recon.base.errors import UserError
from recon.folder import find_images
from train.detector.calibrate import CalibrateConfig, calibrate
from train.detector.score import main as score
from train.evaluation.evaluate import EvaluateConfig, evaluate, out_of, tell
from train.evaluation.figures.scores import read_scores
from train.evaluation.inputs.find import open_source
from train.evaluation.inputs.labels import words_of

ODD = os.fsdecode(b"caf\xe9")  # in Latin-1, as old disks have it


def pair(root: Path, group: str = "gan", suffix: str = "png") -> None:
    for number, half in enumerate(("0_real", "1_fake")):
        put(root / group / half / f"a.{suffix}", png(number))


def config_of(checkpoint: str, data: Path, **options: Any) -> EvaluateConfig:
    out = str(data.parent / "out")
    return EvaluateConfig(checkpoint=checkpoint, data=str(data), out=out, resamples=5, **options)


def metrics(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data.parent / "out/metrics.json").read_text())
    return found


def test_masks_beside_images_are_no_images_and_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair(tmp_path / "d")
    put(tmp_path / "d/gan/1_fake/a.mask.png", png(3))
    put(tmp_path / "d/gan/1_fake/alone.mask.png", png(4))  # of no image: it may be one itself
    names = ["gan/0_real/a.png", "gan/1_fake/a.png", "gan/1_fake/alone.mask.png"]
    assert [one.name for one in open_source(str(tmp_path / "d")).listed] == names
    assert find_images(tmp_path / "d") == names
    assert sum("masks" in message for message in caplog.messages) == 2


@pytest.mark.parametrize(("threshold", "count"), [(1e-6, 2), (1 - 1e-6, 0)])
def test_images_without_labels_are_judged_by_the_threshold_too(
    checkpoint: str, tmp_path: Path, threshold: float, count: int
) -> None:
    for number in range(2):
        put(tmp_path / f"d/{number}.png", png(number))
    assert evaluate(config_of(checkpoint, tmp_path / "d", threshold=threshold)) is None
    assert f"{count} of 2 count as fake" in (tmp_path / "out/table.md").read_text()
    assert metrics(tmp_path / "d")["decision"]["origin"]


def test_a_label_for_all_is_refused_where_folders_or_a_column_say_it(tmp_path: Path) -> None:
    pair(tmp_path / "d")
    put(tmp_path / "t/a.png", png(1))
    put(tmp_path / "t/a.csv", b"filename,label\na.png,0\n")
    for place, told in (("d", "folders of 2 of 2 images say real or fake"), ("t/a.csv", "column label")):
        with pytest.raises(UserError, match=told):
            open_source(str(tmp_path / place), words=words_of(None, None, "real"))


def test_words_that_nothing_is_called_are_refused_with_what_is_there(tmp_path: Path) -> None:
    pair(tmp_path / "d")
    put(tmp_path / "t/a.png", png(1))
    put(tmp_path / "t/a.csv", b"filename,label\na.png,photo\n")
    for place, real, fake, told in (
        ("d", "GEN9", None, "no folder is called gen9; found 0_real, 1_fake, d, gan"),
        ("d", "0_real", "nonsense", "no folder is called nonsense"),
        ("t/a.csv", "photo,pictures", None, "no value of column label is called pictures; found photo"),
    ):
        with pytest.raises(UserError, match=told):
            open_source(str(tmp_path / place), words=words_of(real, fake, None))


def test_words_for_one_class_leave_the_usual_ones_of_the_other(tmp_path: Path) -> None:
    pair(tmp_path / "d", "GEN1")
    put(tmp_path / "d/GEN1/b.png", png(2))
    listed = open_source(str(tmp_path / "d"), words=words_of(None, "GEN1", None)).listed
    labels = {one.name: one.label for one in listed}
    assert labels["GEN1/0_real/a.png"] == 0
    assert labels["GEN1/b.png"] == 1


def test_groups_that_are_not_utf_8_have_figures_and_scores_that_are_read_again(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair(tmp_path / "d", ODD)
    tell(config_of(checkpoint, tmp_path / "d"))
    assert "caf\\\\xe9" in capsys.readouterr().out
    assert sorted(read_scores(str(tmp_path / "out")).names) == [f"{ODD}/0_real/a.png", f"{ODD}/1_fake/a.png"]


def test_a_photograph_whose_name_is_not_utf_8_gets_its_row_and_its_heat_map(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(tmp_path / f"{ODD}.png", png(1, (96, 96)))
    places = {name: tmp_path / name for name in ("a.csv", "a.png")}
    words = (checkpoint, image, "--csv", places["a.csv"], "--heatmap", places["a.png"])
    assert run(monkeypatch, score, *words) == 0
    assert b"caf\xe9.png" in places["a.csv"].read_bytes()
    assert places["a.png"].read_bytes().startswith(b"\x89PNG")


def test_a_crop_that_no_memory_holds_is_refused(checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="crop=100000 has more pixels than max_pixels="):
        config_of(checkpoint, tmp_path, crop=100_000)


def test_a_calibration_says_where_labels_come_from(checkpoint: str, tmp_path: Path) -> None:
    put(tmp_path / "d/a.png", png(1))
    with pytest.raises(UserError, match="images without a label"):
        calibrate(CalibrateConfig(checkpoint=checkpoint, data=str(tmp_path / "d")))


def test_a_threshold_is_not_taken_from_another_detectors_scores(
    checkpoint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair(tmp_path / "d")
    (tmp_path / "other").mkdir()
    other = save_untrained(tmp_path / "other/best.pt", seed=9)
    evaluate(config_of(other, tmp_path / "d"))
    threshold = f"from {tmp_path}/out at fpr=.5"
    with pytest.raises(UserError, match=r"scores in .*/out are those of .*other/best\.pt, whose bytes or"):
        evaluate(config_of(checkpoint, tmp_path / "d", threshold=threshold))
    found = evaluate(config_of(other, tmp_path / "d", threshold=threshold, crop=16))
    assert found is not None
    assert found.decision.origin.startswith("fpr=.5 in ")
    assert "are of view=whole, now view=crop:16: the threshold may not fit" in caplog.text


def test_results_of_other_options_are_replaced_with_a_warning(
    checkpoint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair(tmp_path / "d")
    for options in ({}, {}, {"threshold": 0.9}, {"threshold": 0.9, "max_pixels": 1000}):
        evaluate(config_of(checkpoint, tmp_path / "d", **options))
    replaced = [message for message in caplog.messages if "which is replaced" in message]
    assert len(replaced) == 2
    assert "held an evaluation with threshold=0.0, which" in replaced[0]
    assert "held an evaluation with max_pixels=100000000, which" in replaced[1]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "eval-data-test"),
        ({"checkpoint": "runs/a/step-00000100.pt"}, "eval-step-00000100-data-test"),
        ({"crop": 96, "group_by": "autoencoder"}, "eval-data-test-crop96-by-autoencoder"),
        ({"view": "ten:64", "group_column": "model"}, "eval-data-test-ten64-by-model"),
    ],
)
def test_the_usual_folder_of_results_tells_apart_what_differs(options: dict[str, Any], name: str) -> None:
    config = EvaluateConfig(**{"checkpoint": "runs/a/best.pt", "data": "data/test", **options})
    assert out_of(config) == f"runs/a/{name}"


def test_the_results_of_robustness_are_not_replaced_by_an_evaluation(checkpoint: str, tmp_path: Path) -> None:
    pair(tmp_path / "d")
    put(tmp_path / "out/robustness.json", b"{}")
    with pytest.raises(UserError, match=r"out holds the results of train\.robustness; choose another --out"):
        evaluate(config_of(checkpoint, tmp_path / "d"))
    with pytest.raises(UserError, match="seed=-1, expected 0 or more"):
        config_of(checkpoint, tmp_path / "d", seed=-1)
    config = EvaluateConfig(
        checkpoint=checkpoint, data=str(tmp_path / "d"), out=str(tmp_path / "d/gan/0_real/a.png")
    )
    with pytest.raises(UserError, match=r"a\.png is a file, expected a folder"):
        evaluate(config)
