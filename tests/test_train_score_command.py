"""Scoring single photographs: from files, folders and URLs, in Python, with a heat map."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run
from PIL import Image
from scipy.special import expit
from scored_images import pixels, png, put, save_untrained, untrained  # noqa: F401  # a fixture

from recon.base.errors import UserError
from train.detector.detector import Detector
from train.detector.heatmap import cover, sliding_logits
from train.detector.score import images_at, main
from train.evaluation.scoring import logits_of


@pytest.fixture(name="detector", scope="module")
def loaded(checkpoint: str) -> Detector:
    return Detector.load(checkpoint, device="cpu")


def test_paths_bytes_and_pixels_of_an_image_get_the_score_of_its_pixels(
    detector: Detector, tmp_path: Path
) -> None:
    path, array = put(tmp_path / "a.png", png(1, (20, 24))), pixels(1, (20, 24))
    expected = logits_of(detector.model, array[None], torch.device("cpu"))[0]
    forms = [str(path), path, path.read_bytes(), array, Image.fromarray(array), f"file://{path}"]
    found = detector.score(forms)
    assert [one.logit for one in found] == [expected] * len(forms)
    assert [one.name for one in found[1:4]] == [str(path), "image 2", "image 3"]
    assert found[0].probability == pytest.approx(expit(expected))
    assert {one.looked_at for one in found} == {"whole image 24x20"}
    grey = detector.score([array[..., 0], np.repeat(array[..., :1], 3, axis=2)])
    assert grey[0].logit == grey[1].logit


def test_a_crop_is_the_centre(detector: Detector) -> None:
    array = pixels(1, (20, 24))
    found = detector.score([array], crop=16)[0]
    assert found.logit == detector.logit(np.ascontiguousarray(array[2:18, 4:20]))
    assert found.looked_at == "centre crop of 16x16 pixels from 24x20"


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ("a.png", "expected a list of images, found one str"),
        (["gone.png"], "gone.png not found"),
        ([b"no image"], "image 0: "),
        ([np.zeros((4, 4, 3))], "image 0: expected a path, bytes, or uint8 pixels"),
        ([np.zeros((4, 4, 4), np.uint8)], r"uint8 \(4, 4, 4\)"),
        ([np.zeros((0, 4, 3), np.uint8)], r"uint8 \(0, 4, 3\)"),
        ([np.zeros((40, 40), np.uint8)], "image 0: 40x40 exceeds max_pixels=1000"),
        ([png(1, (40, 40))], "exceeds max_pixels=1000"),
    ],
)
def test_what_is_no_image_is_refused_by_name(detector: Detector, images: object, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        detector.score(images, max_pixels=1000)  # type: ignore[arg-type]


def test_an_image_of_one_pixel_has_a_score(detector: Detector) -> None:
    assert np.isfinite(detector.score([pixels(0, (1, 1))])[0].logit)


def test_diverged_weights_are_refused(detector: Detector, checkpoint: str, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["fc.bias"].fill_(float("nan"))
    torch.save(content, tmp_path / "nan.pt")
    with pytest.raises(UserError, match="image 0: the logit is nan; the weights have diverged"):
        Detector.load(tmp_path / "nan.pt", device="cpu").score([pixels(0)])
    assert detector.score([]) == []


def test_the_command_prints_a_line_an_image_and_writes_csv_and_json(
    checkpoint: str,
    detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = put(tmp_path / "one.png", png(1))
    put(tmp_path / "more/sub/b.png", png(2, (20, 24)))
    put(tmp_path / "more/a.png", png(3))
    put(tmp_path / "more/notes.txt", b"x")
    files = ("--csv", tmp_path / "out/s.csv", "--json", tmp_path / "out/s.json")
    places = (one, f"file://{tmp_path}/more")
    assert run(monkeypatch, main, checkpoint, *places, "--device", "cpu", "--threshold", "0.001", *files) == 0
    names = [str(one), f"file://{tmp_path}/more/a.png", f"file://{tmp_path}/more/sub/b.png"]
    logits = [found.logit for found in detector.score(names)]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [f"{expit(logit):.3f}", "fake", name] for logit, name in zip(logits, names, strict=True)
    ]
    assert lines[2].endswith("(whole image 24x20)")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/s.csv").read_text())))
    assert [(row["name"], float(row["logit"]), row["verdict"]) for row in rows] == [
        (name, logit, "fake") for name, logit in zip(names, logits, strict=True)
    ]
    content = json.loads((tmp_path / "out/s.json").read_text())
    assert [image["logit"] for image in content["images"]] == logits
    assert content["decision"]["origin"] == "probability 0.001"


def test_damaged_images_are_listed_and_the_others_scored(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "a.png", png(1)[:-30])
    put(tmp_path / "b.png", png(2))
    out = tmp_path.parent / f"{tmp_path.name}.csv"
    assert run(monkeypatch, main, checkpoint, tmp_path, "gone.png", "--device", "cpu", "--csv", out) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "a.png: broken or truncated png" in lines[0]
    assert lines[1].split()[2].endswith("b.png")
    assert "gone.png not found" in lines[2]
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [bool(row["trouble"]) for row in rows] == [True, False, True]


def test_an_image_too_small_for_the_normalisation_is_listed_and_the_others_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = save_untrained(tmp_path / "strict.pt", backbone="res18nodown", normalize="residue3")
    small, large = put(tmp_path / "a.png", png(1, (4, 24))), put(tmp_path / "b.png", png(2))
    out = tmp_path / "out.csv"
    assert run(monkeypatch, main, strict, small, large, "--device", "cpu", "--csv", out) == 1
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    complaint = f"{small}: 24x4, the model's normalisation needs 5x5"
    assert [row["trouble"] for row in rows] == [complaint, ""]
    capsys.readouterr()
    assert run(monkeypatch, main, strict, small, "--device", "cpu") == 2
    assert complaint in capsys.readouterr().err


def test_mistakes_are_one_line_and_status_2(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    image = put(tmp_path / "a.png", png(1))
    cases: dict[str, list[object]] = {
        "gone.png not found; expected an image, a folder or a URL": [checkpoint, "gone.png"],
        "empty holds no image": [checkpoint, tmp_path / "empty"],
        "checkpoint gone.pt not found": ["gone.pt", image],
        "window=24 would be ignored: there is no --heatmap": [checkpoint, image, "--window", "24"],
        "a.png would be written over": [checkpoint, image, "--csv", image],
        "would be written twice": [checkpoint, image, "--csv", "x", "--json", "./x"],
        "best.pt would be written over": [checkpoint, image, "--heatmap", checkpoint],
        "is for a single image, found 2": [checkpoint, image, image, "--heatmap", "x.png"],
        "window=0, expected at least 1": [checkpoint, image, "--window", "0"],
        "threshold=2: expected a probability": [checkpoint, image, "--threshold", "2"],
    }
    for complaint, words in cases.items():
        assert run(monkeypatch, main, *words, "--device", "cpu") == 2, complaint
        error = capsys.readouterr().err
        assert (complaint in error, "Traceback" in error) == (True, False), error


def test_images_are_found_in_folders_and_behind_urls(tmp_path: Path) -> None:
    put(tmp_path / "b.png", b"")
    put(tmp_path / "a/c.jpg", b"")
    assert images_at([str(tmp_path)]) == [f"{tmp_path}/a/c.jpg", f"{tmp_path}/b.png"]
    urls = ["https://example.org/photo?id=3", "s3://bucket/a.png"]
    assert images_at(urls) == urls


def test_windows_cover_the_image_and_each_pixel_has_the_mean_of_its_windows() -> None:
    image = pixels(4, (10, 13))
    logits, tops, lefts, side = sliding_logits(lambda part: float(part[0, 0, 0]), image, 6)
    assert (tops, lefts, side) == ([0, 3, 4], [0, 3, 6, 7], 6)
    assert logits[1, 2] == image[3, 6, 0]
    found = cover(logits, tops, lefts, side, (10, 13))
    for y, x in ((0, 0), (9, 12), (4, 7), (5, 3)):
        inside = [
            logits[i, j]
            for i, top in enumerate(tops)
            for j, left in enumerate(lefts)
            if top <= y < top + side and left <= x < left + side
        ]
        assert found[y, x] == pytest.approx(np.mean(inside))
    assert sliding_logits(lambda part: part.shape[0], image, 99)[3] == 10  # that of the image


def test_a_heat_map_is_a_picture_of_the_image_with_a_legend(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(tmp_path / "a.png", png(1, (40, 60)))
    out = tmp_path / "map.png"
    assert (
        run(monkeypatch, main, checkpoint, image, "--device", "cpu", "--heatmap", out, "--window", "24") == 0
    )
    with Image.open(out) as picture:
        assert (picture.format, picture.size) == ("PNG", (1100, 550))
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 100


def test_the_detector_is_offered_by_the_package() -> None:
    import train

    assert train.Detector is Detector
