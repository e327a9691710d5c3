"""The options of a detector."""

import re
from dataclasses import dataclass, field
from typing import Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, refuse_idle


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The detector."""

    backbone: str = "res50nodown"
    """res50nodown, res18nodown, highpass (small enough for two CPU cores), or timm:NAME.
    Vision transformers of timm take any crop; NAME@SIDE makes one for another side than the usual."""
    weights: str | None = None
    """First weights: imagenet (torchvision's or timm's own), or a file or folder: of ours, or of torchvision,
    timm, transformers, OpenAI's CLIP and others, with or without a head; None trains from scratch."""
    normalize: str = "resnet"
    """Normalisation of the pixels before the backbone: resnet, clip, xception (-1..1), npr, residue3
    (6 channels), spec, fft2 or cooc (256x256), MEAN/STD (.5,.5,.5/.25,.25,.25), or auto: that of the timm
    model's own weights."""
    dropout: float | None = None
    """Share of the features before the last layer that a step sets to 0; None: the backbone's usual share, .5
    in res50nodown and res18nodown, .3 in highpass, and mostly 0 in timm's models."""
    train: str = "all"
    """Which weights are trained: all, head (the last layer), last:N (the last N blocks and the head), or
    lora: low-rank changes of `lora_targets` by peft, and the head; what is saved has plain weights."""
    lora_rank: int = 8
    """Rank of the changes."""
    lora_alpha: float = 1.0
    """A weight is changed by lora_alpha / lora_rank x B A (Hu et al., LoRA, ICLR 2022); both are DDA's."""
    lora_targets: list[str] = field(default_factory=lambda: ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
    """The layers with such changes, by the ends of their names: linear ones and convolutions. As DDA's."""
    stay_positive: bool = False
    """Train the head anew, from 0, and after each step set its negative weights to 0, so that features can
    speak for fake only (Rajan and Lee, Stay-Positive, ICML 2025). Needs train=head."""

    def __post_init__(self) -> None:
        at_least_one(self, "lora_rank", group="model.")
        if not re.fullmatch(r"all|head|lora|last:0*[1-9][0-9]*", self.train):
            forms = "all, head, lora, or last:N (the last N blocks and the head)"
            raise UserError(f"model.train={self.train}, expected {forms}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout={self.dropout}, expected 0 <= dropout < 1")
        if not self.lora_alpha > 0:
            raise UserError(f"model.lora_alpha={self.lora_alpha}, expected more than 0")
        if not self.lora_targets:
            raise UserError("model.lora_targets names no layer; model.train=head trains the head alone")
        if self.train != "lora":
            names = ("lora_rank", "lora_alpha", "lora_targets")
            refuse_idle(self, *names, because=f"model.train is {self.train}", group="model.")
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
