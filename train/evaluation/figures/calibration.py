"""The file beside a checkpoint with the temperature and the threshold that ``train.calibrate`` found."""

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass
from typing import Any

from pack.storage import open_store
from recon.base.errors import MissingError, UserError
from recon.base.paths import split_path
from train.evaluation.figures.decision import Decision, decide

_LOG = logging.getLogger(__name__)
FORMAT = "pairstream-calibration/1"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What ``train.calibrate`` found for a checkpoint."""

    temperature: float
    """The probability of fake is sigmoid(logit / temperature)."""
    threshold: float
    """An image counts as fake if its logit is above this."""
    rule: str
    """How the threshold was chosen: balanced, or fpr=SHARE."""
    data: str
    """The validation set."""
    images: int
    """Number of its images that were scored."""
    seed: int
    """Seed of the sample."""
    crop: int | None
    """Side of the centre crops that were scored; None for whole images."""
    checkpoint_sha256: str
    """Of the checkpoint's bytes: scores of other weights need another calibration."""
    format: str = FORMAT
    """Version of this file."""


def calibration_name(checkpoint: str) -> str:
    """The path of the file: ``runs/mine/best.pt`` has ``runs/mine/best.calibration.json``."""
    folder, name = split_path(checkpoint)
    return f"{folder.rstrip('/')}/{name.rpartition('.')[0] or name}.calibration.json"


def sha256_of(checkpoint: str) -> str:
    """The SHA-256 of a checkpoint's bytes, in hexadecimal. UserError: there is no such file."""
    folder, name = split_path(checkpoint)
    try:
        return hashlib.sha256(open_store(folder).read(name)).hexdigest()
    except MissingError as error:
        raise UserError(f"checkpoint {checkpoint} not found; expected a file such as RUN/best.pt") from error


def write_calibration(checkpoint: str, calibration: Calibration) -> None:
    """Publishes the file beside the checkpoint."""
    folder, name = split_path(calibration_name(checkpoint))
    with open_store(folder).publish(name) as file:
        file.write((json.dumps(asdict(calibration), indent=2) + "\n").encode())


def read_calibration(checkpoint: str) -> Calibration | None:
    """The calibration beside a checkpoint, None if there is none.

    Raises:
        UserError: the file has another form, or belongs to another checkpoint.
    """
    path = calibration_name(checkpoint)
    folder, name = split_path(path)
    store = open_store(folder)
    if not store.exists(name):
        return None
    found = _checked(path, store.read(name))
    if found.checkpoint_sha256 != sha256_of(checkpoint):
        raise UserError(
            f"{path} belongs to another checkpoint than {checkpoint}: the bytes differ; run "
            "python -m train.calibrate again, or remove the file"
        )
    return found


def decision_for(checkpoint: str, threshold: str | float | None, crop: int | None) -> Decision:
    """The decision for a checkpoint: what was asked for, else what was calibrated, else probability .5.

    Args:
        checkpoint: path or URL; a calibration beside it gives the temperature in any case.
        threshold: see `train.evaluation.figures.decision.decide`; None if nothing was asked for.
        crop: side of the centre crops to be scored; one that the calibration did not have is warned of.
    """
    base = Decision()
    if (found := read_calibration(checkpoint)) is not None:
        if found.crop != crop:
            _LOG.warning(
                "%s was calibrated with crop=%s, now crop=%s: probabilities and threshold may not fit",
                checkpoint,
                found.crop,
                crop,
            )
        base = Decision(
            temperature=found.temperature,
            threshold=found.threshold,
            origin=f"calibrated: {found.rule} in {found.images} images of {found.data}",
        )
    return base if threshold is None else decide(threshold, base)


def _checked(path: str, data: bytes) -> Calibration:
    try:
        content: dict[str, Any] = json.loads(data)
        found = Calibration(**content)
        numbers = (float(found.temperature), float(found.threshold))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no calibration: {error}; run python -m train.calibrate again") from error
    if found.format != FORMAT or not all(map(math.isfinite, numbers)) or numbers[0] <= 0:
        raise UserError(
            f"{path}: format {found.format!r}, temperature {numbers[0]:g}, threshold {numbers[1]:g}; "
            f"expected {FORMAT!r} and finite numbers; run python -m train.calibrate again"
        )
    return found
