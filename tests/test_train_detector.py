"""A detector: verdicts or causes, decisions that check themselves, what is written where, its card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import run
from scored_images import pixels, png, put, save_untrained, untrained  # noqa: F401  # a fixture

from pack.base.items import store_of
from pack.base.writable import check_writable
from pack.storage import LocalStore
from recon.base.errors import UserError
from train.detector.calibrate import CalibrateConfig, calibrate
from train.detector.detector import Detector, Verdict
from train.detector.export import ExportConfig, export
from train.detector.score import main
from train.evaluation.evaluate import EvaluateConfig, evaluate, out_of
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import read_scores
from train.model.config import FileModel


def test_outcomes_are_a_verdict_or_a_cause_for_each_image(checkpoint: str) -> None:
    detector = Detector.load(checkpoint, device="cpu")
    images = [pixels(1), "gone.png", b"no image", pixels(2)]
    found = list(detector.outcomes(images))
    assert [type(one) for one in found] == [Verdict, UserError, UserError, Verdict]
    assert "gone.png not found" in str(found[1])
    assert [found[0], found[3]] == [
        detector.score([pixels(1)])[0],
        Verdict(**vars(detector.score([pixels(2)])[0]) | {"name": "image 3"}),
    ]
    with pytest.raises(UserError, match=r"gone\.png not found"):
        detector.score(images)


def test_a_folders_store_is_opened_once_for_all_its_photographs(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.png", png(number))
    opened: list[str] = []

    def counted(root: str) -> LocalStore:
        opened.append(root)
        return LocalStore(root)

    monkeypatch.setattr("pack.base.items.open_store", counted)
    store_of.cache_clear()
    try:
        Detector.load(checkpoint, device="cpu").score(sorted(tmp_path.glob("*.png")))
    finally:
        store_of.cache_clear()  # it may hold no store of this test
    assert opened == [str(tmp_path)]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.0},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"threshold": float("inf")},
        {"threshold": "0"},
        {"temperature": None},
    ],
)
def test_a_decision_that_decides_nothing_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected finite numbers, and a temperature above 0"):
        Decision(**values)


@pytest.mark.parametrize("decision", [{"temperature": 0}, {"threshold": "x"}, {"more": 1}, [1], None])
def test_an_exports_decision_is_checked(checkpoint: str, tmp_path: Path, decision: object) -> None:
    export(ExportConfig(checkpoint=checkpoint, out=str(tmp_path)))
    content = json.loads((tmp_path / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps(content | {"decision": decision}))
    with pytest.raises(UserError, match="export again"):
        Detector.load(tmp_path, device="cpu")


@pytest.fixture(name="data")
def labelled(tmp_path: Path) -> str:
    for number in range(6):
        put(tmp_path / f"val/{('0_real', '1_fake')[number % 2]}/{number}.png", png(number, (20, 16)))
    return str(tmp_path / "val")


def test_the_folder_or_the_file_of_an_export_is_scored_evaluated_and_calibrated_as_its_checkpoint(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_untrained(tmp_path / "best.pt", gain=-50)
    folder = tmp_path / "export"
    export(ExportConfig(checkpoint=path, out=str(folder), view="crop:12"))
    found = []
    for place in (path, folder, folder / "detector.safetensors"):
        assert run(monkeypatch, main, place, data, "--device", "cpu", "--view", "crop:12") == 0
        lines = capsys.readouterr().out
        options = EvaluateConfig(checkpoint=str(place), data=data, device="cpu", resamples=2, view="crop:12")
        evaluate(options)
        found.append((lines, read_scores(out_of(options)).logits_N.tolist()))
    assert out_of(options).startswith(f"{folder}/eval-")
    assert found[0] == found[1] == found[2]
    calibrated = calibrate(CalibrateConfig(checkpoint=str(folder), data=data, device="cpu"))
    assert calibrated.view == "crop:12"  # that of the export
    assert (folder / "detector.calibration.json").exists()
    assert Detector.load(folder, device="cpu").decision.threshold == calibrated.threshold


def test_a_folder_in_the_home_folder_is_found(
    checkpoint: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    export(ExportConfig(checkpoint=checkpoint, out=str(tmp_path / "shown")))
    options = EvaluateConfig(checkpoint="~/shown", data=data, device="cpu", resamples=2)
    evaluate(options)
    one, same = (Detector.load(path, device="cpu") for path in ("~/shown", checkpoint))
    assert one.logit(pixels(1)) == same.logit(pixels(1))
    export(ExportConfig(checkpoint="~/shown", out=str(tmp_path / "again")))
    assert f"| `{data}` | 6 |" in (tmp_path / "again/README.md").read_text()


def test_where_nothing_can_be_written_is_told_before_anything_is_scored(
    checkpoint: str,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def score_nothing(*_given: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("train.evaluation.scoring._call", score_nothing)
    file = put(tmp_path / "file", b"x")
    for option in ("--csv", "--json", "--heatmap"):
        image = f"{data}/0_real/0.png"
        assert run(monkeypatch, main, checkpoint, image, "--device", "cpu", option, file / "out") == 2
        assert "can't write" in capsys.readouterr().err
    with pytest.raises(UserError, match="can't write"):
        evaluate(EvaluateConfig(checkpoint=checkpoint, data=data, device="cpu", out=str(file / "out")))
    with pytest.raises(UserError, match="can't write"):
        export(ExportConfig(checkpoint=checkpoint, out=str(file / "out")))


def test_to_find_out_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(str(tmp_path / "a/b/c.csv"), None, str(tmp_path / "d.csv"), f"file://{tmp_path}/e.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="it is a folder; name a file in it"):
        check_writable(str(tmp_path))


def test_an_export_reads_the_checkpoint_once(
    checkpoint: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "best.pt", Path(checkpoint).read_bytes())
    calibrate(CalibrateConfig(checkpoint=str(path), data=data, device="cpu"))
    read: list[str] = []
    whole = LocalStore.read

    def counted(store: LocalStore, name: str, *more: Any, **options: Any) -> bytes:
        read.append(name)
        return whole(store, name, *more, **options)

    monkeypatch.setattr(LocalStore, "read", counted)
    export(ExportConfig(checkpoint=str(path), out=str(tmp_path / "out"), view="whole"))
    assert read.count("best.pt") == 1


def test_the_card_says_what_it_was_trained_on_and_how_it_was_evaluated(data: str, tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "best.pt", gain=-50)
    content = torch.load(path, weights_only=True)
    content["config"]["data"] = {"train": {"s3://b/coco": 1.0, str(tmp_path / "gone"): 0.5}}
    torch.save(content | {"epoch": 4, "step": 90, "val": None}, path)
    report = evaluate(EvaluateConfig(checkpoint=path, data=data, device="cpu", resamples=20))
    other = save_untrained(tmp_path / "other.pt")
    evaluate(EvaluateConfig(checkpoint=other, data=data, device="cpu", resamples=2, view="crop:9"))
    export(ExportConfig(checkpoint=path, out=str(tmp_path / "out"), license="apache-2.0", view="crop:16"))
    text = (tmp_path / "out/README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header == {
        "license": "apache-2.0",
        "library_name": "pairstream",
        "pipeline_tag": "image-classification",
        "tags": ["generated-image-detection", "image-forensics", "pairstream"],
    }
    assert report is not None
    auc, (low, high) = report.rows[""].auc, report.rows[""].intervals["auc"]
    for fact in (
        "| training | epoch 4, step 90 |", "`s3://b/coco`", f"`{tmp_path}/gone`",
        "| what it looks at | `crop:16` |",
        f"| `{data}` | 6 | `whole` | {auc:.3f} [{low:.3f}, {high:.3f}] |", "## Limits",
    ):  # fmt: skip
        assert fact in text
    assert "crop:9" not in text  # of other weights
    assert np.isfinite(auc)


def test_the_card_of_published_weights_claims_no_training(tmp_path: Path) -> None:
    torch.save(torch.load(save_untrained(tmp_path / "a.pt"), weights_only=True)["model"], tmp_path / "b.pth")
    given = FileModel(backbone="highpass", normalize="clip")
    export(ExportConfig(checkpoint=str(tmp_path / "b.pth"), out=str(tmp_path / "out"), model=given))
    text = (tmp_path / "out/README.md").read_text()
    assert "| training | by others" in text
    assert "Backbone `highpass`, normalisation `clip`" in text
