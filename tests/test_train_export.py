"""Exports: weights and options alone, equal scores from them, and from ONNX within 1e-4."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run
from safetensors.torch import load_file
from scored_images import pixels
from test_train_calibrate import calibration

from pack.storage import LocalStore
from recon.base.errors import UserError
from train.detector.detector import Detector
from train.detector.export import ExportConfig, export, main, onnx_bytes
from train.detector.exported import ONNX
from train.evaluation.figures.calibration import write_calibration
from train.model.build import build_model
from train.model.config import ModelConfig

SIZES = ((32, 32), (24, 56), (51, 37))


def checkpoint(folder: Path, backbone: str = "highpass", normalize: str = "resnet", seed: int = 1) -> str:
    torch.manual_seed(seed)
    model = build_model(ModelConfig(backbone=backbone, normalize=normalize))
    config = {"model": {"backbone": backbone, "normalize": normalize}, "data": {"train": "s3://b/mine"}}
    content = {
        "format": "pairstream-checkpoint/1", "config": config, "model": model.state_dict(),
        "epoch": 7, "step": 120, "val": {"auc": 0.9375, "balanced_accuracy": 0.875},
    }  # fmt: skip
    torch.save(content | {"optimizer": {"secret": 1}}, folder / "best.pt")
    return str(folder / "best.pt")


def test_an_export_holds_weights_and_options_alone_and_scores_as_the_checkpoint(tmp_path: Path) -> None:
    path, out = checkpoint(tmp_path, normalize="clip"), tmp_path / "out"
    names = export(ExportConfig(checkpoint=path, out=str(out)))
    assert sorted(names) == ["README.md", "detector.json", "detector.safetensors"]
    assert sorted(one.name for one in out.iterdir()) == sorted(names)
    weights = load_file(out / "detector.safetensors")
    state = torch.load(path, weights_only=True)["model"]
    assert set(weights) == set(state)
    assert all(torch.equal(weights[name], state[name]) for name in state)
    options = json.loads((out / "detector.json").read_text())
    assert options["model"] == {"backbone": "highpass", "normalize": "clip"}
    images = [pixels(1, size) for size in SIZES]
    one, other = (Detector.load(place, device="cpu") for place in (path, out / "detector.safetensors"))
    assert one.score(images) == other.score(images)


def test_an_export_takes_the_calibration_along_and_a_threshold_may_replace_it(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    write_calibration(path, calibration(path))
    export(ExportConfig(checkpoint=path, out=str(tmp_path / "out")))
    weights = tmp_path / "out/detector.safetensors"
    assert Detector.load(weights, device="cpu").decision == Detector.load(path, device="cpu").decision
    assert Detector.load(weights, device="cpu", threshold=0.5).decision.threshold == 0.0


def test_nothing_of_another_detectors_export_stays_in_its_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    weights = out / "detector.safetensors"
    export(ExportConfig(checkpoint=checkpoint(tmp_path), out=str(out)))
    with caplog.at_level(logging.INFO):
        export(ExportConfig(checkpoint=checkpoint(tmp_path), out=str(out)))
    assert "replaces" not in caplog.text
    write_calibration(str(weights), calibration(str(weights)))
    for name in (ONNX, "detector.pt", "mine.onnx"):
        (out / name).write_bytes(b"x")
    path = checkpoint(tmp_path, seed=2)
    with caplog.at_level(logging.INFO):
        export(ExportConfig(checkpoint=path, out=str(out)))
    files = {"README.md", "detector.json", "detector.safetensors", "detector.pt", "mine.onnx"}
    assert {one.name for one in out.iterdir()} == files
    assert caplog.text.count("out/detector.safetensors: replaces the detector of another checkpoint") == 1
    assert "out/detector.onnx: removed, it was of an earlier export" in caplog.text
    images = [pixels(1)]
    one, other = (Detector.load(place, device="cpu") for place in (path, weights))
    assert one.score(images) == other.score(images)


def test_an_export_of_an_export_into_its_folder_keeps_its_decision(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(ExportConfig(checkpoint=checkpoint(tmp_path), out=str(out)))
    weights = str(out / "detector.safetensors")
    write_calibration(weights, calibration(weights))
    expected = Detector.load(weights, device="cpu").decision
    export(ExportConfig(checkpoint=str(out), out=str(out)))
    assert sorted(one.name for one in out.iterdir()) == ["README.md", "detector.json", "detector.safetensors"]
    assert Detector.load(weights, device="cpu").decision == expected
    assert expected.temperature == 2.0


def test_a_killed_export_leaves_no_new_weights_with_the_options_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(ExportConfig(checkpoint=checkpoint(tmp_path, normalize="clip"), out=str(out)))
    path = checkpoint(tmp_path, seed=2)

    def killed(store: LocalStore, name: str, **more: object) -> Any:
        if name == "README.md":
            raise KeyboardInterrupt
        return publish(store, name, **more)  # type: ignore[arg-type]

    publish = LocalStore.publish
    monkeypatch.setattr(LocalStore, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        export(ExportConfig(checkpoint=path, out=str(out)))
    with pytest.raises(UserError, match="does not say its model's backbone and normalize"):
        Detector.load(out / "detector.safetensors", device="cpu")


def test_a_calibration_of_another_file_of_that_name_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(ExportConfig(checkpoint=checkpoint(tmp_path), out=str(out)))
    other = out / "detector.pt"
    other.write_bytes(b"others")
    write_calibration(str(other), calibration(str(other)))
    export(ExportConfig(checkpoint=checkpoint(tmp_path, seed=2), out=str(out)))
    assert (out / "detector.calibration.json").exists()


def test_the_card_is_filled_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(ExportConfig(checkpoint=checkpoint(tmp_path), out=str(out), license="mit"))
    text = (out / "README.md").read_text()
    for fact in (
        "license: mit", "Backbone `highpass`", "17,217 parameters", "epoch 7, step 120", "`s3://b/mine`",
        "auc 0.938, balanced_accuracy 0.875", "fake above logit 0, probability 0.5 (as trained)",
    ):  # fmt: skip
        assert fact in text


def test_a_damaged_export_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(ExportConfig(checkpoint=checkpoint(tmp_path), out=str(out)))
    weights, options = out / "detector.safetensors", out / "detector.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"is damaged: .*fetch or export it again"):
        Detector.load(weights, device="cpu")
    weights.write_bytes(whole)
    for text in ("x", "{}", '{"format": "other"}'):
        options.write_text(text)
        with pytest.raises(UserError, match="is not an export's JSON of format 'pairstream-detector/1'"):
            Detector.load(weights, device="cpu")
    options.unlink()
    with pytest.raises(
        UserError, match=r"does not say its model's backbone and normalize, .*JSON of its name"
    ):
        Detector.load(weights, device="cpu")


def test_a_missing_checkpoint_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(monkeypatch, main, "--checkpoint", "gone.pt", "--out", tmp_path / "out")
    assert (status, "gone.pt not found" in capsys.readouterr().err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backbone", ["highpass", "res18nodown"])
def test_onnxruntime_gives_the_logits_of_torch_for_any_size_and_batch(tmp_path: Path, backbone: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    assert ONNX in export(ExportConfig(checkpoint=checkpoint(tmp_path, backbone), out=str(out), onnx=True))
    session = runtime.InferenceSession(out / ONNX, providers=["CPUExecutionProvider"])
    detector = Detector.load(out / "detector.safetensors", device="cpu")
    for size in SIZES:
        images = [pixels(seed, size) for seed in range(2)]
        levels_B3HW = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
        (logits_B,) = session.run(["logit"], {"levels": levels_B3HW})
        expected = [one.logit for one in detector.score(images)]
        np.testing.assert_allclose(logits_B, expected, rtol=0, atol=1e-4)


def test_a_detector_without_an_onnx_form_or_without_onnx_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector.load(checkpoint(tmp_path), device="cpu")

    def fail(*given: object, **more: object) -> None:  # noqa: ARG001
        raise RuntimeError("no symbolic function for aten::fft\nmore")

    monkeypatch.setattr("train.detector.export.find_spec", lambda name: name)
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        UserError, match=r"highpass with normalize=resnet has no ONNX form: no symbolic .*fft; le"
    ):
        onnx_bytes(detector, "highpass")
    monkeypatch.setattr("train.detector.export.find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(UserError, match=r"--onnx needs onnx; pip install -e '\.\[onnx\]'"):
        onnx_bytes(detector, "highpass")
