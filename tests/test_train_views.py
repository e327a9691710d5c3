"""What is scored of an image: crops and resized images as torchvision makes them, and the mean of several."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scored_images import pixels, png, put, untrained  # noqa: F401  # a fixture
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from recon.base.errors import UserError
from train.detector.calibrate import CalibrateConfig, calibrate
from train.detector.detector import Detector
from train.evaluation.evaluate import EvaluateConfig, evaluate, out_of
from train.evaluation.figures.scores import read_scores
from train.evaluation.images import scored_part
from train.evaluation.inputs.source import LARGE, SMALL, Lost
from train.evaluation.look import WHOLE, asked_look, parse_look
from train.evaluation.scoring import Waiting, by_size, mean_logits
from train.window.geometry import centre_crop

FIVE = "five:16"


@pytest.fixture(name="detector", scope="module")
def loaded(checkpoint: str) -> Detector:
    return Detector.load(checkpoint, device="cpu")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("whole", "whole"),
        ("crop:96", "crop:96"),
        (" five:224 ", "five:224"),
        ("ten:8", "ten:8"),
        ("resize:256", "resize:256"),
        ("resize:256:bilinear", "resize:256"),
        ("resize:32x48:lanczos", "resize:32x48:lanczos"),
        ("resize:440+crop:384", "resize:440+crop:384"),
        ("resize:224:bicubic+ten:192", "resize:224:bicubic+ten:192"),
    ],
)
def test_a_view_has_a_name_that_gives_it_back(text: str, name: str) -> None:
    assert str(parse_look(text)) == name
    assert parse_look(name) == parse_look(text)


@pytest.mark.parametrize(
    "text",
    ["", "nine:3", "crop", "crop:0", "crop:-3", "crop:2.5", "resize:0", "resize:3x0", "resize:9:sinc",
     "whole+crop:3", "crop:3+resize:5", "resize:3+resize:5", "resize:3+", "whole+",
     "five:3+crop:2", "resize:3+crop:0"],
)  # fmt: skip
def test_another_name_lists_the_forms(text: str) -> None:
    with pytest.raises(UserError, match=r"^view=.*expected whole, crop:N, five:N or ten:N .*:bicubic"):
        parse_look(text)


def test_crop_is_short_for_a_view_and_huge_views_are_refused() -> None:
    assert asked_look(None, None) is None
    assert asked_look(None, 96) == parse_look("crop:96")
    for view, crop, complaint in (
        ("whole", 3, "crop=3 is view=crop:3, but view=whole was given as well"),
        ("crop:11", None, "view=crop:11 has more pixels than max_pixels=100"),
        ("resize:20x6", None, "view=resize:20x6 has more pixels"),
        (None, 11, "crop=11 has more pixels than max_pixels=100"),
    ):
        with pytest.raises(UserError, match=complaint):
            asked_look(view, crop, 100)


@pytest.mark.parametrize("size", [(40, 60), (61, 40), (24, 24)])
@pytest.mark.parametrize("short", [24, 40, 50])
@pytest.mark.parametrize("resampler", ["bilinear", "bicubic"])
def test_resizing_is_torchvisions_bit_for_bit(size: tuple[int, int], short: int, resampler: str) -> None:
    image = pixels(3, size)
    mode = InterpolationMode(resampler)
    expected = TF.resize(Image.fromarray(image), short, mode)
    np.testing.assert_array_equal(parse_look(f"resize:{short}:{resampler}").of(image), np.asarray(expected))
    squashed = TF.resize(Image.fromarray(image), [20, 30], mode)
    np.testing.assert_array_equal(parse_look(f"resize:20x30:{resampler}").of(image), np.asarray(squashed))


@pytest.mark.parametrize(("name", "theirs"), [("five", TF.five_crop), ("ten", TF.ten_crop)])
def test_several_crops_are_torchvisions(name: str, theirs: Any) -> None:
    image = pixels(1, (30, 44))
    found = parse_look(f"{name}:16").of(image)
    expected = [np.asarray(crop) for crop in theirs(Image.fromarray(image), 16)]
    assert found.shape == (len(expected), 16, 16, 3)
    # torchvision mirrors the whole image before it takes the last five, so left and right are exchanged.
    assert sorted(crop.tobytes() for crop in found) == sorted(crop.tobytes() for crop in expected)


def test_crops_that_are_larger_than_the_image_mirror_it_as_the_centre_crop_does() -> None:
    image = pixels(2, (10, 40))
    found = parse_look("five:16").of(image)
    np.testing.assert_array_equal(found[4], centre_crop(image, 16))
    np.testing.assert_array_equal(
        found[0], found[2]
    )  # 10 rows: the crops at the top and at the bottom are one
    np.testing.assert_array_equal(found[0][:, 0], centre_crop(image[:, :16], 16)[:, 0])
    assert not np.array_equal(found[0], found[1])


def test_a_view_tells_what_it_looks_at() -> None:
    for name, told in {
        "whole": "whole image 60x40",
        "crop:16": "centre crop of 16x16 pixels from 60x40",
        "resize:80+ten:64": "ten crops of 64x64 pixels from 60x40, resized to 120x80",
        "resize:40": "whole image 60x40",
    }.items():
        assert parse_look(name).told(40, 60) == told


def test_what_is_too_large_when_resized_or_too_small_for_the_normalisation_is_left_out() -> None:
    found = scored_part(pixels(0, (1, 200)), parse_look("resize:9000+crop:8"), 1)
    assert isinstance(found, Lost)
    assert (found.kind, "200x1, resized to 1800000x9000" in found.cause) == (LARGE, True)
    found = scored_part(pixels(0, (40, 40)), parse_look("resize:4"), 5)
    assert isinstance(found, Lost)
    assert (found.kind, found.cause) == (SMALL, "4x4, the model's normalisation needs 5x5")
    assert not isinstance(scored_part(pixels(0, (4, 40)), parse_look("five:16"), 5), Lost)


def test_the_score_of_several_crops_is_the_mean_of_their_logits_and_equal_images_have_equal_ones(
    detector: Detector,
) -> None:
    image = pixels(1, (30, 44))
    crops = parse_look("ten:16").of(image)
    single = [detector.logit(crop) for crop in crops]
    expected = float(np.float32(np.mean(single)))
    first, again = detector.score([image, image.copy()], view="ten:16")
    assert first.logit == again.logit == expected
    assert len(set(single)) > 1
    assert detector.score([image], view="crop:16")[0].logit == single[4]
    # In a batch, as on a GPU, each image has the mean of its own.
    others = np.stack([crops, crops[::-1].copy(), parse_look("ten:16").of(pixels(2, (20, 20)))])
    found = mean_logits(detector.model, others, torch.device("cpu"))
    assert found[0] == np.float32(expected)
    assert found.shape == (3,)


def test_batches_hold_images_of_equal_numbers_and_sizes_of_views_within_the_limit() -> None:
    shapes = [(5, 8, 8, 3), (8, 8, 3), (5, 8, 8, 3), (10, 8, 8, 3)]
    waiting = [Waiting(index=place, pixels=np.zeros(shape, np.uint8)) for place, shape in enumerate(shapes)]
    assert sorted([one.index for one in batch] for batch in by_size(waiting, 4)) == [[0, 2], [1], [3]]
    held = by_size(waiting, 4, held_pixels=600)  # of 64 pixels a view: 5 + 1 + 5 views are too many
    assert [[one.index for one in batch] for batch in held] == [[0, 2], [3], [1]]


@pytest.fixture(name="data", scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    for number in range(8):
        put(folder / f"{('0_real', '1_fake')[number % 2]}/{number}.png", png(number // 2, (20, 18 + number)))
    put(folder / "1_fake/equal.png", png(0, (20, 18)))  # the first real image
    return folder


def test_evaluate_scores_and_records_the_view(
    detector: Detector, checkpoint: str, data: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"checkpoint": checkpoint, "data": str(data), "device": "cpu", "resamples": 2}
    evaluate(EvaluateConfig(**options, out=str(tmp_path / "out"), view=FIVE))
    scores = read_scores(str(tmp_path / "out"))
    found = dict(zip(scores.names, scores.logits_N.tolist(), strict=True))
    expected = detector.score([data / name for name in scores.names], view=FIVE)
    assert list(found.values()) == [one.logit for one in expected]
    assert found["0_real/0.png"] == found["1_fake/equal.png"]
    facts = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (facts["view"], facts["crop"]) == (FIVE, None)
    assert out_of(EvaluateConfig(**options, view="resize:32+crop:16")).endswith("-set-resize32+crop16")
    evaluate(EvaluateConfig(**options, out=str(tmp_path / "crop"), crop=16))
    facts = json.loads((tmp_path / "crop/metrics.json").read_text())
    assert (facts["view"], facts["crop"]) == ("crop:16", 16)


def test_a_killed_evaluation_with_another_view_is_not_gone_on_with(
    checkpoint: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"checkpoint": checkpoint, "data": str(data), "device": "cpu", "resamples": 2}
    with monkeypatch.context() as patched:
        patched.setattr("train.evaluation.results.ScoredImage", None)  # it ends behind the last part
        with pytest.raises(TypeError):
            evaluate(EvaluateConfig(**options, out=str(tmp_path / "out"), view=FIVE))
    assert list((tmp_path / "out").glob("scores.part-*"))
    evaluate(EvaluateConfig(**options, out=str(tmp_path / "out"), view="crop:16"))
    evaluate(EvaluateConfig(**options, out=str(tmp_path / "fresh"), view="crop:16"))
    one, other = (read_scores(str(tmp_path / name)) for name in ("out", "fresh"))
    assert one.logits_N.tolist() == other.logits_N.tolist()


def test_a_calibration_with_another_view_is_warned_of_and_old_ones_are_read(
    checkpoint: str, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = put(tmp_path / "own.pt", Path(checkpoint).read_bytes())
    found = calibrate(CalibrateConfig(checkpoint=str(own), data=str(data), device="cpu", view=FIVE))
    assert found.view == FIVE
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        Detector.load(own, device="cpu", view=FIVE)
        assert caplog.text == ""
        Detector.load(own, device="cpu", crop=16)
    assert "calibrated with view=five:16, now view=crop:16" in caplog.text
    file = tmp_path / "own.calibration.json"
    content = json.loads(file.read_text())
    del content["view"]
    for crop, view in ((None, "whole"), (16, "crop:16")):  # written before there were views
        file.write_text(json.dumps(content | {"crop": crop}))
        caplog.clear()
        Detector.load(own, device="cpu", view=view)
        assert caplog.text == ""


def test_a_detector_keeps_the_view_that_it_was_loaded_with(checkpoint: str) -> None:
    image = pixels(1, (30, 44))
    loaded_so = Detector.load(checkpoint, device="cpu", view="crop:16")
    assert loaded_so.score([image]) == Detector.load(checkpoint, device="cpu").score([image], view="crop:16")
    assert loaded_so.score([image], view="whole")[0].looked_at == WHOLE.told(30, 44)
