"""The weights of a Gaussian, bit for bit those of scipy."""

import numpy as np
from numpy.typing import NDArray

IDENTITY = 1e-15
"""Scipy leaves an image alone at this sigma or less."""


def gaussian_weights(sigma: float, radius: int) -> NDArray[np.float64]:
    """(2 radius + 1,) weights, bit for bit equal to those of scipy's `_gaussian_kernel1d`."""
    if sigma <= IDENTITY:
        return np.ones(1)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return np.asarray(weights / weights.sum())
