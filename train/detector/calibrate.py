"""Fits the temperature and chooses the threshold of a detector on a validation set.

    python -m train.calibrate --checkpoint runs/mine/best.pt --data data/mine/val --rule fpr=.01

Both go into a file beside the checkpoint, ``runs/mine/best.calibration.json``. From then on
``train.evaluate`` and ``train.score`` use them for this checkpoint. The data have any form that
``train.evaluate`` reads, by the same options; take none that the detector is tested on, and the ``--view`` or
``--crop`` of the evaluation to come. A temperature changes no ranking, only the probabilities.
"""

import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one, not_negative
from recon.place.alone import refuse_ranks
from train.evaluation.images_config import ImagesConfig, open_images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from train.detector.detector import Detector
    from train.evaluation.figures.calibration import Calibration
    from train.evaluation.figures.scores import Scores
    from train.evaluation.inputs.source import ImageSource
    from train.evaluation.scoring import Waiting


FEW = 50
"""Of fewer images of a class, a single one moves its error rate by more than 2 %."""

_PROG = "python -m train.calibrate"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig(ImagesConfig):
    """Which detector, which images, and the rule of the threshold."""

    rule: str = "balanced"
    """balanced: the highest balanced accuracy; fpr=SHARE: the lowest threshold that takes at most this share
    of the real images for fakes."""
    sample: int = 5000
    """Score this many images, drawn at random; all if there are fewer."""
    seed: int = 0
    """Seed of the sample, 0 or larger."""

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        at_least_one(self, "sample")
        not_negative(self, "seed")


def main() -> None:
    """Runs the command line."""
    run(CalibrateConfig, _job, prog=_PROG, about=__doc__ or "")


def calibrate(config: CalibrateConfig) -> "Calibration":
    """Scores the sample, and writes temperature and threshold beside the checkpoint.

    Raises:
        UserError: the checkpoint, the data or the device can't be used, the rule is unknown, or no threshold
            follows from the scores (see `train.evaluation.figures.decision`).
    """
    from train.evaluation.figures.calibration import Calibration, calibration_name, write_calibration
    from train.evaluation.figures.decision import Decision, choose_threshold, rate_of

    rate_of(config.rule)  # a mistake in --rule shows before the images are scored
    source = _labelled(config)
    # torch: not before the mistakes above are told
    from pack.base.writable import check_writable
    from train.detector.detector import Detector
    from train.evaluation.look import asked_look, parse_look
    from train.model.published.load import load_detector

    file = load_detector(config.checkpoint, config.model)
    check_writable(calibration_name(file.path))
    look = asked_look(config.view, config.crop, config.max_pixels) or parse_look(file.view)
    # An old calibration beside the checkpoint has no say here.
    detector = Detector.decided(file, Decision(), device=config.device, look=look)
    scores = score_sample(detector, source, config)
    warn_of_few(scores)
    found = Calibration(
        temperature=temperature_of(scores),
        threshold=choose_threshold(config.rule, scores),
        rule=config.rule,
        data=config.data,
        images=len(scores.names),
        seed=config.seed,
        view=str(look),
        checkpoint_sha256=file.sha256,
    )
    write_calibration(file.path, found)
    return found


def _labelled(config: CalibrateConfig) -> "ImageSource":
    source = open_images(config)
    if any(one.label is None for one in source.listed):
        raise UserError(
            f"{config.data} has images without a label, which a calibration can't use; name the words of the "
            "classes by --real and --fake, or see 'Evaluating what you have' in the README for the folders "
            "and columns that have them"
        )
    return source


def warn_of_few(scores: "Scores") -> None:
    """Warns if a class has too few images to choose a threshold by."""
    fakes = int((scores.labels_N == 1).sum())
    reals = len(scores.labels_N) - fakes
    if min(reals, fakes) < FEW:
        _LOG.warning(
            "%d real images and %d fakes decide temperature and threshold, fewer than %d of a class: other "
            "images may give very different ones; take more images (--data, --sample)",
            reals,
            fakes,
            FEW,
        )


def temperature_of(scores: "Scores") -> float:
    """The best temperature; 1, with a warning, if none is best."""
    from train.evaluation.figures.decision import NoTemperatureError, fit_temperature

    try:
        return fit_temperature(scores)
    except NoTemperatureError as error:
        _LOG.warning("%s: it stays 1; more images, or harder ones, would tell", error)
        return 1.0


def score_sample(detector: "Detector", source: "ImageSource", config: CalibrateConfig) -> "Scores":
    """Scores a random sample of a source's images, in their order; damaged ones are left out."""
    import numpy as np

    from train.evaluation.figures.scores import SHARED, Scores
    from train.evaluation.scoring import score

    waiting = _waiting(detector, source, config)
    found = score(
        detector.model,
        waiting,
        batch_size=config.batch_size,
        device=detector.device,
        normalization=detector.normalization,
    )
    by_place = {
        place: logit for places, logits_B in found for place, logit in zip(places, logits_B, strict=True)
    }
    scored = [(source.listed[place], by_place[place]) for place in sorted(by_place)]
    names = [image.name for image, _ in scored]
    # Groups and photographs change neither temperature nor threshold.
    return Scores(
        names=names,
        groups=[SHARED] * len(names),
        photographs=names,
        labels_N=np.array([image.label for image, _ in scored]),
        logits_N=np.array([logit for _, logit in scored], dtype=np.float64),
    )


def _waiting(detector: "Detector", source: "ImageSource", config: CalibrateConfig) -> "Iterator[Waiting]":
    """The images of the sample for the model; those that it can't get are told."""
    from recon.base.cpus import available_cpus
    from recon.base.progress import Progress
    from train.evaluation.images import Ready, ready
    from train.evaluation.inputs.source import Lost
    from train.evaluation.scoring import Waiting
    from train.model.normalize import find_normalization

    chosen = sample(source.total, config.sample, config.seed)
    blocks = source.places_of(chosen)
    how = Ready(
        max_pixels=config.max_pixels,
        look=detector.look,
        min_side=find_normalization(detector.normalization).min_side,
        threads=config.threads or available_cpus(),
    )
    with Progress(total=len(chosen), unit="images", what="calibrate") as shown:
        for place, found in ready(source, blocks, how, chosen):
            shown.update()
            if isinstance(found, Lost):
                _LOG.warning("left out of the calibration: %s: %s", source.listed[place].name, found.cause)
            else:
                yield Waiting(index=place, pixels=found)


def sample(total: int, count: int, seed: int) -> set[int]:
    """The places of a random sample of `count` of `total` images; all of them if there are not more."""
    import numpy as np

    if total <= count:
        return set(range(total))
    return set(np.random.default_rng(seed).choice(total, count, replace=False).tolist())


def _job(config: CalibrateConfig) -> None:
    refuse_ranks(os.environ, _PROG)
    from train.evaluation.figures.calibration import calibration_name
    from train.evaluation.figures.decision import Decision

    found = calibrate(config)
    from train.model.published.load import detector_file  # imports torch: not before the mistakes are told

    chosen = Decision(temperature=found.temperature, threshold=found.threshold)
    name = calibration_name(detector_file(config.checkpoint))
    sys.stdout.write(
        f"{name}: temperature {found.temperature:.4g}; fake above logit "
        f"{found.threshold:.4g}, probability {chosen.probability:.4g} ({found.rule} in {found.images} images "
        f"of {found.data})\n"
    )
