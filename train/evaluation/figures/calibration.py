"""The file beside a checkpoint with the temperature and the threshold that ``train.calibrate`` found."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pack.storage import open_store
from recon.base.errors import UserError
from recon.base.paths import split_path
from train.evaluation.figures.decision import Decision, decide, scores_in
from train.evaluation.figures.scores import scores_file

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
    view: str
    """What was scored of each image, a name of ``--view``."""
    checkpoint_sha256: str
    """Of the checkpoint's bytes, and of what --model.* added: other scores need another calibration."""
    format: str = FORMAT
    """Version of this file."""


def calibration_name(checkpoint: str) -> str:
    """The path of the file: ``runs/mine/best.pt`` has ``runs/mine/best.calibration.json``."""
    folder, name = split_path(checkpoint)
    return f"{folder.rstrip('/')}/{name.rpartition('.')[0] or name}.calibration.json"


def write_calibration(checkpoint: str, calibration: Calibration) -> None:
    """Publishes the file beside the checkpoint."""
    folder, name = split_path(calibration_name(checkpoint))
    with open_store(folder).publish(name) as file:
        file.write((json.dumps(asdict(calibration), indent=2) + "\n").encode())


def read_calibration(checkpoint: str, sha256: str) -> Calibration | None:
    """The calibration beside a checkpoint, None if there is none.

    Args:
        checkpoint: path or URL.
        sha256: of its bytes.

    Raises:
        UserError: the file has another form, or belongs to another checkpoint.
    """
    path = calibration_name(checkpoint)
    folder, name = split_path(path)
    store = open_store(folder)
    if not store.exists(name):
        return None
    found = _checked(path, store.read(name))
    if found.checkpoint_sha256 != sha256:
        raise UserError(
            f"{path} belongs to another checkpoint than {checkpoint}: bytes or options --model.* differ; run "
            "python -m train.calibrate again, or remove the file"
        )
    return found


def decision_for(
    checkpoint: str,
    sha256: str,
    threshold: str | float | None,
    view: str,
    exported: Mapping[str, Any] | None = None,
) -> Decision:
    """The decision for a checkpoint: what was asked for, else what was calibrated, else probability .5.

    Args:
        checkpoint: path or URL; a calibration beside it gives the temperature in any case.
        sha256: of its bytes.
        threshold: see `train.evaluation.figures.decision.decide`; None if nothing was asked for.
        view: what is scored of each image; another one than that of the calibration is warned of.
        exported: the decision that an export holds, which counts where there is no calibration.
    """
    base = Decision() if exported is None else _exported(checkpoint, exported)
    if (found := read_calibration(checkpoint, sha256)) is not None:
        if found.view != view:
            _LOG.warning(
                "%s was calibrated with view=%s, now view=%s: probabilities and threshold may not fit",
                checkpoint,
                found.view,
                view,
            )
        base = Decision(
            temperature=found.temperature,
            threshold=found.threshold,
            origin=f"calibrated: {found.rule} in {found.images} images of {found.data}",
        )
    if threshold is None:
        return base
    if (place := scores_in(threshold)) is not None:
        _check_same(place, checkpoint, sha256, view)
    return decide(threshold, base)


def _check_same(place: str, checkpoint: str, sha256: str, view: str) -> None:
    """Refuses a threshold from another detector's scores, as far as the metrics.json beside them tells."""
    store = open_store(split_path(scores_file(place))[0])
    if not store.exists("metrics.json"):  # scores from elsewhere
        return
    try:
        facts: dict[str, Any] = json.loads(store.read("metrics.json"))
        theirs, theirs_view = facts.get("checkpoint_sha256", sha256), facts.get("view", view)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{store.url}/metrics.json is no JSON object: {error}") from error
    if theirs != sha256:
        raise UserError(
            f"the scores in {place} are those of {facts.get('checkpoint')}, whose bytes or options --model.* "
            f"are not those of {checkpoint}; a threshold fits one detector: evaluate this one there first"
        )
    if theirs_view != view:
        _LOG.warning(
            "the scores in %s are of view=%s, now view=%s: the threshold may not fit",
            place,
            theirs_view,
            view,
        )


def _exported(checkpoint: str, values: Mapping[str, Any]) -> Decision:
    try:
        return Decision(**values)
    except (TypeError, UserError) as error:
        raise UserError(f"{checkpoint}: its JSON has no decision ({error}); export again") from error


def _checked(path: str, data: bytes) -> Calibration:
    try:
        content: dict[str, Any] = json.loads(data)
        if content.get("format", FORMAT) == FORMAT and "crop" in content:  # before there were other views
            crop = content.pop("crop")
            content["view"] = "whole" if crop is None else f"crop:{crop}"
        found = Calibration(**content)
        if found.format != FORMAT:
            raise ValueError(f"format {found.format!r}, expected {FORMAT!r}")
        Decision(temperature=found.temperature, threshold=found.threshold)
    except (ValueError, TypeError, AttributeError, UserError) as error:
        raise UserError(f"{path} is no calibration: {error}; run python -m train.calibrate again") from error
    return found
