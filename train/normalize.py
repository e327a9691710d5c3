"""Pixels as the backbones expect them: ImageNet's mean and deviation per channel."""

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue on the scale 0..1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's red, green and blue on the scale 0..1."""


def normalize(x_B3HW: Tensor) -> Tensor:
    """Normalises images as torchvision's ImageNet weights and the published detectors expect.

    Args:
        x_B3HW: uint8 RGB images (B, 3, H, W), any device.

    Returns:
        float32 of the same shape, about -2.1 to 2.7.

    Raises:
        AssertionError: the input is not uint8, so its range is not known.
    """
    assert x_B3HW.dtype is torch.uint8, f"expected uint8 images, found {x_B3HW.dtype}"
    mean = torch.tensor(MEAN, device=x_B3HW.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=x_B3HW.device).view(1, 3, 1, 1)
    return (x_B3HW.float() / 255.0 - mean) / std
