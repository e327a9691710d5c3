"""The options of a detector."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The detector."""

    backbone: str = "res50nodown"
    """res50nodown, res18nodown, highpass (small enough for two CPU cores), or timm:NAME."""
    weights: str | None = None
    """First weights: imagenet, or a file of weights with torchvision's names; None trains from scratch."""
    normalize: str = "resnet"
    """Normalisation of the pixels before the backbone: resnet, clip, xception (-1..1), npr, residue3
    (6 channels), spec, fft2 or cooc (256x256)."""
