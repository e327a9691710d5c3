"""Functions for numpy arrays and torch tensors, so that the same code draws with both."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


Array = Any
"""A numpy array or a torch tensor, of the same kind as the ids."""


def device_of(ids: Any) -> "torch.device | None":
    """The device of a tensor; None for a numpy array."""
    return None if isinstance(ids, np.ndarray) else ids.device


def moved(array: NDArray[Any], device: "torch.device | None") -> Array:
    """The array as a tensor on a device; for None the array itself."""
    if device is None:
        return array
    import torch  # not at the top: the loading process does without torch

    return torch.from_numpy(array).to(device)


def root(x: Array) -> Array:
    """The square root, correctly rounded to the precision of float32, as float64.

    Torch's root on a CPU (MKL's) may be wrong by one float64 unit in the last place. But the root of a number
    of 24 bits is at least four such units away from the points where the rounding to 24 bits changes. After
    this rounding, all libraries agree.
    """
    if isinstance(x, np.ndarray):
        return np.sqrt(x.astype(np.float32)).astype(np.float64)
    return x.float().double().sqrt().float().double()


def floor(x: Array) -> Array:
    """The integer part of numbers that are not negative."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()
