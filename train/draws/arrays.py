"""What numpy arrays and torch tensors have in common here, so that one code draws on both."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


Array = Any
"""A numpy array or a torch tensor, as the ids were."""


def device_of(ids: Any) -> "torch.device | None":
    """Where a tensor lies; None for a numpy array."""
    return None if isinstance(ids, np.ndarray) else ids.device


def moved(array: NDArray[Any], device: "torch.device | None") -> Array:
    """The array on a device; as it is for None."""
    if device is None:
        return array
    import torch

    return torch.from_numpy(array).to(device)


def root(x: Array) -> Array:
    """The root in float32's precision, rounded correctly.

    Torch's root on a CPU (MKL's) may miss float64's last bit. The root of a number of 24 bits keeps
    four such bits' distance from where the rounding to 24 bits turns: rounded, all roots agree.
    """
    if isinstance(x, np.ndarray):
        return np.sqrt(x.astype(np.float32)).astype(np.float64)
    return x.float().double().sqrt().float().double()


def floor(x: Array) -> Array:
    """Whole numbers of what is not negative."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()
