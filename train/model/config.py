"""The options of a detector."""

from dataclasses import dataclass
from typing import Literal

from recon.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The detector."""

    backbone: str = "res50nodown"
    """res50nodown, res18nodown, highpass (small enough for two CPU cores), or timm:NAME.
    Vision transformers of timm take any crop; NAME@SIDE makes one for another side than the usual."""
    weights: str | None = None
    """First weights: imagenet, or a file of weights with torchvision's names; None trains from scratch."""
    normalize: str = "resnet"
    """Normalisation of the pixels before the backbone: resnet, clip, xception (-1..1), npr, residue3
    (6 channels), spec, fft2 or cooc (256x256), MEAN/STD (.5,.5,.5/.25,.25,.25), or auto: that of the timm
    model's own weights."""
    train: str = "all"
    """Which weights are trained: all, head (the last layer) or last:N (the last N blocks and the head)."""
    stay_positive: bool = False
    """After each step, set negative weights of the head to 0, so that features can speak for fake only
    (Rajan and Lee, Stay-Positive, ICML 2025). Needs train=head."""

    def __post_init__(self) -> None:
        if self.stay_positive and self.train != "head":
            raise UserError(f"model.stay_positive needs model.train=head, found {self.train}")
        if self.stay_positive and self.backbone.startswith("timm:"):
            # Then a positive weight can give a negative contribution.
            raise UserError("model.stay_positive needs features that are not negative; timm's may be")


@dataclass(frozen=True, kw_only=True)
class FileModel:
    """What a published file may not say of its detector; None: as it, or a config beside it, says."""

    backbone: str | None = None
    """Its network, as in train --model.backbone; timm:NAME@SIDE for inputs of another side than the usual.
    Then no config beside the file is read."""
    normalize: str | None = None
    """Its normalisation, as in train --model.normalize, or MEAN/STD such as .5,.5,.5/.25,.25,.25."""
    head: Literal["fake", "real", "real-fake", "fake-real"] | None = None
    """What its outputs stand for: one, high for a fake or a real image; or two, whose difference fake - real
    is the logit. None: as its config names them, else fake or real-fake."""
    lora_alpha: float | None = None
    """Of weights with LoRA, such as DDA's: the alpha that they were trained with."""
