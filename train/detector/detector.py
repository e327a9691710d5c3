"""A trained detector for single photographs.

from train import Detector

detector = Detector.load("runs/mine/best.pt")
print(detector.score(["photo.jpg"])[0].probability)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from pack.storage import open_store
from recon.base.device import find_device
from recon.base.errors import MissingError, RejectedImageError, UserError
from recon.base.paths import split_path
from recon.image.codec import Pixels, as_rgb, decode
from train.detector.exported import EXPORT_SUFFIX, read_export
from train.evaluation.figures.calibration import decision_for
from train.evaluation.figures.decision import Decision, decide
from train.evaluation.images import scored_part
from train.evaluation.inputs.source import Lost
from train.evaluation.scoring import logits_of
from train.model.build import model_from_checkpoint, normalization_of
from train.model.checkpoint import load_checkpoint
from train.model.normalize import find_normalization

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused, unless another limit is given."""
Image = str | Path | bytes | Any
"""A path or URL, the bytes of a file, or (H, W, 3) or (H, W) uint8 pixels, such as an RGB image of Pillow."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a detector says about an image."""

    name: str
    """Path or URL of the image; "image 3" if it has none."""
    logit: float
    """Above the threshold for fake."""
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
        normalization: a name in `train.model.normalize.NORMALIZATIONS`.
        decision: temperature and threshold.
        device: where the model is.
        config: the options of the model, for an export.
    """

    def __init__(
        self,
        model: nn.Module,
        normalization: str,
        decision: Decision,
        device: torch.device,
        config: dict[str, Any],
    ) -> None:
        self.model, self.normalization, self.decision = model.eval(), normalization, decision
        self.device, self.config = device, config

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        threshold: str | float | None = None,
        crop: int | None = None,
        is_calibrated: bool = True,
    ) -> "Detector":
        """Loads a checkpoint with the calibration beside it, or what ``train.export`` wrote.

        Args:
            path: path or URL of a checkpoint of a training run, or of a ``.safetensors`` file with its JSON.
            device: cuda, cpu, or auto: cuda if there is a GPU.
            threshold: a probability above which an image counts as fake, or another form of
                ``train.evaluate --threshold``; None takes the calibrated one, .5 if there is none.
            crop: side of the centre crops to come; a calibration with another one is warned of.
            is_calibrated: whether to read the calibration beside a checkpoint.

        Raises:
            UserError: file, device or threshold can't be used.
        """
        if str(path).endswith(EXPORT_SUFFIX):
            checkpoint, exported = read_export(str(path))
            decision = exported if threshold is None else decide(threshold, exported)
        else:
            checkpoint = load_checkpoint(path)
            decision = decision_for(str(path), threshold, crop) if is_calibrated else Decision()
        place = find_device(device)
        model = model_from_checkpoint(checkpoint).to(place)
        return cls(model, normalization_of(checkpoint), decision, place, checkpoint["config"]["model"])

    def score(
        self, images: Sequence[Image], *, crop: int | None = None, max_pixels: int = MAX_PIXELS
    ) -> list[Verdict]:
        """Scores images, each in a call of its own.

        Args:
            images: see `Image`.
            crop: side of the centre crop that is scored, in pixels; None scores whole images.
            max_pixels: larger images are refused.

        Raises:
            UserError: an image is missing, too small or can't be read (the message names it), or a logit is
                not finite.
        """
        if isinstance(images, str | Path | bytes):
            raise UserError(
                f"expected a list of images, found one {type(images).__name__}; put it into [...]"
            )
        return list(self._verdicts(images, crop, max_pixels))

    def _verdicts(self, images: Sequence[Image], crop: int | None, max_pixels: int) -> Iterator[Verdict]:
        for number, image in enumerate(images):
            name = str(image) if isinstance(image, str | Path) else f"image {number}"
            yield self.verdict(name, read_pixels(image, name, max_pixels), crop)

    def verdict(self, name: str, pixels: Pixels, crop: int | None = None) -> Verdict:
        """Scores the (H, W, 3) pixels of one image; see `score`."""
        height, width = pixels.shape[:2]
        scored = scored_part(pixels, crop, find_normalization(self.normalization).min_side)
        if isinstance(scored, Lost):
            raise UserError(f"{name}: {scored.cause}")
        logit = self.logit(scored)
        if not np.isfinite(logit):
            raise UserError(
                f"{name}: the logit is {logit}; the weights have diverged, take another checkpoint"
            )
        part = "whole image" if crop is None else f"centre crop of {crop}x{crop} pixels from"
        return Verdict(
            name=name,
            logit=logit,
            probability=float(expit(logit / self.decision.temperature)),
            is_fake=logit > self.decision.threshold,
            looked_at=f"{part} {width}x{height}",
        )

    def logit(self, pixels: Pixels) -> float:
        """The logit of (H, W, 3) uint8 pixels."""
        own_1HWC = np.array(pixels)[None]  # copied: torch takes neither read-only nor odd strides
        return float(logits_of(self.model, own_1HWC, self.device, self.normalization)[0])


def read_pixels(image: Image, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Reads an image to (H, W, 3) uint8 RGB; see `Image`.

    Raises:
        UserError: it is missing, damaged, too large, or of another type; the message names it.
    """
    data = _bytes(image) if isinstance(image, str | Path) else image
    if isinstance(data, bytes):
        try:
            return as_rgb(decode(data, max_pixels=max_pixels, convert=True).pixels)
        except RejectedImageError as error:
            raise UserError(f"{name}: {error}") from error
    pixels = np.asarray(data)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not is_image or not pixels.size:
        raise UserError(
            f"{name}: expected a path, bytes, or uint8 pixels (H, W, 3) or (H, W), found "
            f"{type(image).__name__} {pixels.dtype} {pixels.shape}"
        )
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise UserError(f"{name}: {pixels.shape[1]}x{pixels.shape[0]} exceeds max_pixels={max_pixels}")
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _bytes(path: str | Path) -> bytes:
    folder, name = split_path(str(path))
    try:
        return open_store(folder).read(name)
    except MissingError as error:
        raise UserError(f"{path} not found; expected an image, a folder or a URL") from error
