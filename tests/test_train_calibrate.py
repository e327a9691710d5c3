"""Calibration: fitted on a sample, kept beside the checkpoint it belongs to, and used from then on."""

import hashlib
import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run
from figure_scores import scores_of
from scored_images import pixels, png, put, save_untrained

from recon.base.errors import UserError
from train.detector.calibrate import CalibrateConfig, calibrate, main, sample, score_sample, temperature_of
from train.detector.detector import Detector
from train.evaluation.evaluate import EvaluateConfig, evaluate
from train.evaluation.figures.calibration import (
    Calibration,
    calibration_name,
    read_calibration,
    write_calibration,
)
from train.evaluation.figures.decision import choose_threshold, fit_temperature
from train.evaluation.figures.scores import Scores, read_scores
from train.evaluation.images_config import ImagesConfig
from train.evaluation.inputs.find import open_source
from train.evaluation.inputs.source import ImageSource, Listed, Read


@pytest.fixture(name="checkpoint")
def decided(tmp_path: Path) -> str:
    """A detector whose logits are large enough to differ from image to image."""
    # With this sign, the fakes below score higher on the whole.
    return save_untrained(tmp_path / "best.pt", gain=-50)


@pytest.fixture(name="data")
def labelled(tmp_path: Path) -> str:
    for index in range(12):
        put(tmp_path / f"val/{('0_real', '1_fake')[index % 2]}/{index}.png", png(index, (16, 16 + index)))
    return str(tmp_path / "val")


def sha256_of(checkpoint: str) -> str:
    return hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()


def calibration(checkpoint: str, **changed: object) -> Calibration:
    values = {
        "temperature": 2.0, "threshold": 0.5, "rule": "balanced", "data": "val", "images": 3, "seed": 0,
        "view": "whole", "checkpoint_sha256": sha256_of(checkpoint),
    }  # fmt: skip
    return Calibration(**(values | changed))  # type: ignore[arg-type]


def test_temperature_and_threshold_are_those_of_the_scores_and_evaluate_and_score_use_them(
    checkpoint: str, data: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "plain")
    evaluate(EvaluateConfig(checkpoint=checkpoint, data=data, out=out, device="cpu", resamples=5))
    scores = read_scores(out)
    found = calibrate(CalibrateConfig(checkpoint=checkpoint, data=data, rule="fpr=.2", device="cpu"))
    assert found.temperature == pytest.approx(fit_temperature(scores))
    assert found.threshold == choose_threshold("fpr=.2", scores)
    assert (found.images, found.rule, found.view) == (12, "fpr=.2", "whole")
    assert read_calibration(checkpoint, sha256_of(checkpoint)) == found
    assert calibration_name(checkpoint) == str(tmp_path / "best.calibration.json")

    report = evaluate(EvaluateConfig(checkpoint=checkpoint, data=data, out=out, device="cpu", resamples=5))
    assert (report.decision.temperature, report.decision.threshold) == (found.temperature, found.threshold)
    reals = scores.logits_N[scores.labels_N == 0]
    assert report.rows[""].real_accuracy == (reals <= found.threshold).mean()
    assert json.loads((tmp_path / "plain/metrics.json").read_text())["decision"]["origin"].startswith(
        "calibrated: fpr=.2 in 12 images of "
    )
    verdicts = Detector.load(checkpoint, device="cpu").score([f"{data}/0_real/0.png"])
    assert verdicts[0].is_fake == (verdicts[0].logit > found.threshold)
    assert verdicts[0].probability == pytest.approx(1 / (1 + np.exp(-verdicts[0].logit / found.temperature)))


def test_a_threshold_on_the_command_line_keeps_the_temperature(checkpoint: str) -> None:
    write_calibration(checkpoint, calibration(checkpoint))
    found = Detector.load(checkpoint, device="cpu", threshold=0.9).decision
    assert (found.temperature, found.threshold) == (2.0, pytest.approx(2 * np.log(9)))


def test_a_calibration_of_other_weights_is_refused(checkpoint: str) -> None:
    write_calibration(checkpoint, calibration(checkpoint, checkpoint_sha256="0" * 64))
    with pytest.raises(
        UserError, match=r"belongs to another checkpoint .* run python -m train.calibrate again"
    ):
        Detector.load(checkpoint, device="cpu")


def test_another_crop_than_the_calibrations_is_warned_of(
    checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_calibration(checkpoint, calibration(checkpoint, view="crop:96"))
    with caplog.at_level(logging.WARNING):
        Detector.load(checkpoint, device="cpu", crop=96)
        assert caplog.text == ""
        Detector.load(checkpoint, device="cpu")
    assert "calibrated with view=crop:96, now view=whole" in caplog.text


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"temperature": 1, "else": 2}'])
def test_a_damaged_calibration_is_refused(checkpoint: str, text: str) -> None:
    Path(calibration_name(checkpoint)).write_text(text)
    with pytest.raises(UserError, match=r"is no calibration: .* run python -m train.calibrate again"):
        read_calibration(checkpoint, sha256_of(checkpoint))


@pytest.mark.parametrize("changed", [{"temperature": 0.0}, {"threshold": np.inf}, {"format": "x/9"}])
def test_a_calibration_without_valid_numbers_is_refused(checkpoint: str, changed: dict[str, object]) -> None:
    write_calibration(checkpoint, calibration(checkpoint, **changed))
    with pytest.raises(
        UserError, match=r"is no calibration: .*expected ('pairstream-calibration/1'|finite numbers)"
    ):
        read_calibration(checkpoint, sha256_of(checkpoint))


def test_a_calibration_takes_the_images_of_any_input_by_the_options_of_an_evaluation(
    checkpoint: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = calibrate(CalibrateConfig(checkpoint=checkpoint, data=data, device="cpu"))
    images = sorted(Path(data).rglob("*.png"))
    rows = [f"{one},{('flux', 'photos')['real' in one.parent.name]},a,b,c" for one in images]
    put(tmp_path / "list.csv", "\n".join(["where,what,from,path,label", *rows]).encode())
    words = ["--real", "photos", "--fake", "flux", "--path_column", "where", "--label_column", "what"]
    more = ["--group_column", "from", "--threads", "1", "--batch_size", "3", "--device", "cpu"]
    table = str(tmp_path / "list.csv")
    assert run(monkeypatch, main, "--checkpoint", checkpoint, "--data", table, *words, *more) == 0
    found = read_calibration(checkpoint, sha256_of(checkpoint))
    assert found is not None
    assert (found.temperature, found.threshold, found.images) == (
        expected.temperature,
        expected.threshold,
        12,
    )


def test_threads_and_batch_size_count_in_a_calibration(
    checkpoint: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.evaluation import images, scoring

    seen, ready, score = {}, images.ready, scoring.score

    def seen_ready(source: Any, blocks: Any, how: images.Ready, chosen: Any) -> Any:
        seen["threads"] = how.threads
        return ready(source, blocks, how, chosen)

    def seen_score(*given: Any, batch_size: int, **more: Any) -> Any:
        seen["batch_size"] = batch_size
        # As on a GPU, where a batch holds the images of one size.
        return iter(sorted(score(*given, batch_size=batch_size, **more), key=str, reverse=True))

    monkeypatch.setattr(images, "ready", seen_ready)
    monkeypatch.setattr(scoring, "score", seen_score)
    config = CalibrateConfig(checkpoint=checkpoint, data=data, device="cpu", threads=3, batch_size=5)
    detector = Detector.load(checkpoint, device="cpu")
    found = score_sample(detector, open_source(data), config)
    assert seen == {"threads": 3, "batch_size": 5}
    assert found.names == [one.name for one in open_source(data).listed]


def test_evaluate_and_calibrate_share_the_options_of_the_images_and_their_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert issubclass(EvaluateConfig, ImagesConfig)
    assert run(monkeypatch, main, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert [one.name for one in fields(ImagesConfig) if f"--{one.name}" not in text] == []
    assert "Folders or values of the label column that mean real" in text


@pytest.mark.parametrize("config", [CalibrateConfig, EvaluateConfig])
def test_a_negative_seed_is_refused_before_anything_is_scored(config: type) -> None:
    with pytest.raises(UserError, match="seed=-1, expected 0 or more"):
        config(checkpoint="best.pt", data="val", seed=-1)


@pytest.mark.parametrize(("sample_of", "told"), [(3, True), (100, False)])
def test_few_images_of_a_class_are_warned_of(
    checkpoint: str,
    tmp_path: Path,
    sample_of: int,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = [0, 1, 1] if told else [0, 1] * 50
    logits = np.random.default_rng(0).normal(size=len(labels)).tolist()
    put(tmp_path / "one/0_real/a.png", png(1))
    monkeypatch.setattr(
        "train.detector.calibrate.score_sample",
        lambda *given: scores_of(labels, logits),  # noqa: ARG005
    )
    calibrate(
        CalibrateConfig(checkpoint=checkpoint, data=str(tmp_path / "one"), sample=sample_of, device="cpu")
    )
    line = "1 real images and 2 fakes decide temperature and threshold, fewer than 50 of a class"
    assert (line in caplog.text) == told
    assert told or "decide" not in caplog.text


def test_a_sample_is_drawn_by_its_seed() -> None:
    one, again, other = (sample(100, 30, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 30
    assert one < set(range(100)) == sample(100, 100, 0)


def test_where_no_temperature_is_best_it_stays_1_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert temperature_of(scores_of([0, 1], [-1.0, 1.0])) == 1.0
    assert "the scores separate the classes without an error: it stays 1" in caplog.text
    with pytest.raises(UserError, match="needs both classes"):
        temperature_of(scores_of([0], [1.0]))


def test_a_new_calibration_replaces_one_of_other_weights(checkpoint: str, data: str) -> None:
    write_calibration(checkpoint, calibration(checkpoint, checkpoint_sha256="0" * 64))
    found = calibrate(CalibrateConfig(checkpoint=checkpoint, data=data, device="cpu"))
    assert read_calibration(checkpoint, sha256_of(checkpoint)) == found


def test_the_command_scores_a_sample_alone_and_prints_what_it_wrote(
    checkpoint: str, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--checkpoint", checkpoint, "--data", data, "--sample", "10", "--seed", "1", "--device", "cpu"]
    status, text = run(monkeypatch, main, *words), capsys.readouterr()
    assert (status, "best.calibration.json: temperature" in text.out) == (0, True), text
    found = read_calibration(checkpoint, sha256_of(checkpoint))
    assert found is not None
    assert (found.images, found.seed) == (10, 1)


def test_a_damaged_image_is_left_out_with_a_warning(
    checkpoint: str, data: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(Path(data) / "0_real/broken.png", png(1)[:-30])
    found = calibrate(CalibrateConfig(checkpoint=checkpoint, data=data, device="cpu"))
    assert found.images == 12
    assert "left out of the calibration: 0_real/broken.png: broken or truncated png" in caplog.text


def test_an_image_that_is_not_there_is_left_out_with_a_warning(
    checkpoint: str, data: str, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(data) / "0_real/gone.png").symlink_to("nowhere.png")
    found = calibrate(CalibrateConfig(checkpoint=checkpoint, data=data, device="cpu"))
    assert found.images == 12
    assert "left out of the calibration: 0_real/gone.png: can't be read: No such file" in caplog.text


def test_of_blocks_that_hold_no_image_of_the_sample_none_is_read_and_of_the_others_the_sample_alone_decoded(
    checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    chosen, read = sample(40, 4, 0), []

    def block(first: int, count: int) -> list[Read]:
        read.append(first)
        return [png(place) if place in chosen else b"no image" for place in range(first, first + count)]

    listed = [Listed(str(place), "g", (0, 1)[place % 2], "") for place in range(40)]
    source = ImageSource(kind="", listed=listed, read=block, blocks=[5] * 8)
    detector = Detector.load(checkpoint, device="cpu")
    config = CalibrateConfig(checkpoint=checkpoint, data="", sample=4)
    scores = score_sample(detector, source, config)
    assert scores.names == [str(place) for place in sorted(chosen)]
    assert scores.logits_N.tolist() == [detector.logit(pixels(place)) for place in sorted(chosen)]
    assert sorted(read) == sorted({place // 5 * 5 for place in chosen})
    assert caplog.text == ""


def test_a_checkpoint_that_is_replaced_while_its_images_are_scored_has_no_calibration(
    checkpoint: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(*arguments: Any) -> Scores:
        save_untrained(Path(checkpoint), seed=4)
        return score_sample(*arguments)

    monkeypatch.setattr("train.detector.calibrate.score_sample", replaced)
    calibrate(CalibrateConfig(checkpoint=checkpoint, data=data, device="cpu"))
    with pytest.raises(UserError, match="belongs to another checkpoint"):
        read_calibration(checkpoint, sha256_of(checkpoint))


def test_mistakes_are_told_before_the_images_are_scored(
    checkpoint: str,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(tmp_path / "fakes/1_fake/a.png", png(0))
    fakes = str(tmp_path / "fakes")
    put(tmp_path / "plain/a.png", png(0))
    cases = {
        "rule 'best', expected fpr=SHARE": ["--data", data, "--rule", "best"],
        "fpr=2, expected a share": ["--data", data, "--rule", "fpr=2"],
        "words of the classes by --real and --fake": ["--data", str(tmp_path / "plain")],
        "sample=0, expected at least 1": ["--data", data, "--sample", "0"],
        "a calibration needs both classes, and there are no real images": ["--data", fakes],
        "checkpoint gone.pt not found; expected a file such": ["--data", data, "--checkpoint", "gone.pt"],
    }
    for complaint, words in cases.items():
        status = run(monkeypatch, main, "--checkpoint", checkpoint, "--device", "cpu", *words)
        error = capsys.readouterr().err
        assert (status, complaint in error, "Traceback" in error) == (2, True, False), error
    assert not Path(calibration_name(checkpoint)).exists()
    assert open_source(fakes).total == 1


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "RANK=1 and WORLD_SIZE=2 make this one of several processes"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but RANK not"),
        (
            {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"},
            "OMPI_COMM_WORLD_RANK=0 of OMPI_COMM_WORLD_SIZE=2 makes this one of several processes",
        ),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
    ],
)
def test_one_of_several_ranks_is_refused_before_it_writes_what_all_would_write(
    checkpoint: str,
    data: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    told: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status = run(monkeypatch, main, "--checkpoint", checkpoint, "--data", data, "--device", "cpu")
    assert (status == 0) == (told is None) == Path(calibration_name(checkpoint)).exists()
    if told:
        cure = "python -m train.calibrate is one process: start it without torchrun or srun, or unset it"
        assert capsys.readouterr().err == f"error: {told}; {cure}\n"
