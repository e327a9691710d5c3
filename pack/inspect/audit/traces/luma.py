"""The luma of an image, as most measurements of the audit take it."""

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G, B, as in JPEG (ITU-R BT.601)."""


def luma_of(pixels: Pixels) -> NDArray[np.float32]:
    """Maps (H, W, 1 or 3) uint8 to (H, W) levels; a grey image is its own luma."""
    weights = LUMA if pixels.shape[2] == 3 else np.ones(1, np.float32)
    return pixels.astype(np.float32) @ weights
