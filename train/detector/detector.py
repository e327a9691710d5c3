"""A trained detector for single photographs.

from train import Detector

detector = Detector.load("runs/mine/best.pt")
print(detector.score(["photo.jpg"])[0].probability)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from recon.base.device import find_device
from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.detector.photographs import MAX_PIXELS, Image, read_pixels
from train.evaluation.figures.calibration import decision_for
from train.evaluation.figures.decision import Decision
from train.evaluation.images import scored_part
from train.evaluation.inputs.source import Lost
from train.evaluation.look import WHOLE, Look, asked_look, parse_look
from train.evaluation.scoring import mean_logits
from train.model.build import normalization_of
from train.model.config import FileModel
from train.model.normalize import find_normalization
from train.model.published.load import DetectorFile, load_detector


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a detector says about an image."""

    name: str
    """Path or URL of the image; "image 3" if it has none."""
    logit: float
    """Above the threshold for fake; of several crops the mean."""
    probability: float
    """Of fake, in 0..1: sigmoid(logit / temperature)."""
    is_fake: bool
    """Whether the logit is above the threshold."""
    looked_at: str
    """The part of the image that was scored, with its size as width x height."""


class Detector:
    """A model with its normalisation, temperature and threshold.

    Args:
        model: in eval mode, on `device`.
        normalization: a name that `train.model.normalize.find_normalization` knows.
        decision: temperature and threshold.
        device: where the model is.
        look: what it looks at, unless another view is asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        normalization: str,
        decision: Decision,
        device: torch.device,
        look: Look = WHOLE,
    ) -> None:
        self.model, self.normalization, self.decision = model.eval(), normalization, decision
        self.device, self.look = device, look

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        threshold: str | float | None = None,
        crop: int | None = None,
        view: str | None = None,
        model: FileModel = FileModel(),  # noqa: B008  # frozen
    ) -> "Detector":
        """Loads a checkpoint with the calibration beside it, an export, or published weights.

        Args:
            path: path or URL of the file, or a folder on disk that holds one; see
                `train.model.published.load.load_detector`.
            device: cuda, cpu, or auto: cuda if there is a GPU.
            threshold: a probability above which an image counts as fake, or another form of
                ``train.evaluate --threshold``; None takes the calibrated one, .5 if there is none.
            crop: side of the centre crops to come; short for a view.
            view: what is scored of an image, see ``train.evaluate --view``; None: what the file says, else
                all of it. A calibration with another one is warned of.
            model: what a published file does not say of its model.

        Raises:
            UserError: file, device or threshold can't be used.
        """
        return cls.of(
            load_detector(str(path), model), device=device, threshold=threshold, look=asked_look(view, crop)
        )

    @classmethod
    def of(
        cls,
        file: DetectorFile,
        *,
        device: str,
        threshold: str | float | None = None,
        look: Look | None = None,
    ) -> "Detector":
        """The detector of a file that was read; see `load`."""
        look = look or parse_look(file.view)
        decision = decision_for(file.path, file.sha256, threshold, str(look), file.decision)
        return cls.decided(file, decision, device=device, look=look)

    @classmethod
    def decided(cls, file: DetectorFile, decision: Decision, *, device: str, look: Look) -> "Detector":
        """The detector of a file that was read, with another decision than the calibration beside it."""
        place = find_device(device)
        return cls(file.build().to(place), normalization_of(file.content), decision, place, look)

    def score(
        self,
        images: Sequence[Image],
        *,
        crop: int | None = None,
        view: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Verdict]:
        """Scores images, each in a call of its own; stops at the first that has no score (see `outcomes`).

        Args:
            images: see `train.detector.photographs.Image`.
            crop: side of the centre crop that is scored, in pixels; short for a view.
            view: what is scored, see ``train.evaluate --view``; None: as the detector was loaded.
            max_pixels: larger images are refused.

        Raises:
            UserError: an image is missing, too small or can't be read (the message names it), or a logit is
                not finite. Those before it are lost.
        """
        found = []
        for outcome in self.outcomes(images, crop=crop, view=view, max_pixels=max_pixels):
            if isinstance(outcome, UserError):
                raise outcome
            found.append(outcome)
        return found

    def outcomes(
        self,
        images: Sequence[Image],
        *,
        crop: int | None = None,
        view: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Verdict | UserError]:
        """Yields for each image its verdict, or why it has none; arguments as those of `score`."""
        if isinstance(images, str | Path | bytes):
            raise UserError(
                f"expected a list of images, found one {type(images).__name__}; put it into [...]"
            )
        look = asked_look(view, crop) or self.look
        return (self._outcome(number, image, look, max_pixels) for number, image in enumerate(images))

    def _outcome(self, number: int, image: Image, look: Look, max_pixels: int) -> Verdict | UserError:
        name = str(image) if isinstance(image, str | Path) else f"image {number}"
        try:
            return self.verdict(name, read_pixels(image, name, max_pixels), look)
        except UserError as error:
            return error

    def verdict(self, name: str, pixels: Pixels, look: Look) -> Verdict:
        """Scores the (H, W, 3) pixels of one image; see `score`."""
        scored = scored_part(pixels, look, find_normalization(self.normalization).min_side)
        if isinstance(scored, Lost):
            raise UserError(f"{name}: {scored.cause}")
        logit = self.logit(scored)
        if not np.isfinite(logit):
            raise UserError(
                f"{name}: the logit is {logit}; the weights have diverged, take another checkpoint"
            )
        return Verdict(
            name=name,
            logit=logit,
            probability=float(expit(logit / self.decision.temperature)),
            is_fake=logit > self.decision.threshold,
            looked_at=look.told(*pixels.shape[:2]),
        )

    def logit(self, pixels: Pixels) -> float:
        """The logit of (H, W, 3) uint8 pixels; the mean of those of several views (V, H, W, 3)."""
        own = np.array(pixels)[None]  # copied: torch takes neither read-only nor odd strides
        return float(mean_logits(self.model, own, self.device, self.normalization)[0])
