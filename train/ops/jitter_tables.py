"""Tables for the hue and the chroma of the colour jitter, for numpy arrays and for torch tensors.

Torch is imported only for tensors, because the loading process does without it. The sources are those of
`train.ops.jitter`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array = Any
"""A numpy array or a torch tensor."""


def _hues() -> NDArray[np.uint8]:
    """The 8-bit hue for each pair of the differences red - blue and green - blue, which determine it.

    `_hue_place` in `train.ops.jitter` computes the index of a colour.
    """
    rb, gb = np.mgrid[-255:257, -255:257]
    rgb = np.stack([rb, gb, np.zeros_like(rb)])
    r, g, b = rgb - rgb.min(0)
    largest = np.maximum(np.maximum(r, g), b)
    size = np.maximum(largest, 1).astype(np.float32)
    # Pillow stores its variables as float32, but computes expressions in float64.
    rc, gc, bc = ((largest - one).astype(np.float32) / size for one in (r, g, b))
    red, green, blue = bc - gc, (2.0 + np.float64(rc)) - bc, (4.0 + np.float64(gc)) - rc
    h = np.where(r == largest, red, np.where(g == largest, green, blue)).astype(np.float32)
    h = np.fmod(h / np.float64(6) + 1, 1).astype(np.float32)
    hue = np.where(largest == 0, 0, (h * np.float64(255)).astype(np.int64))
    return hue.astype(np.uint8).ravel()


def _chromas() -> NDArray[np.float32]:
    """The amount to subtract from a channel for half a step of its share.

    Its index is value * 256 + (value - least). It is computed from the 8-bit saturation, not from the
    difference itself.
    """
    value, difference = np.mgrid[0:256, 0:256].astype(np.float32)
    saturation = np.floor((difference / np.maximum(value, 1)).astype(np.float64) * 255)
    taken: NDArray[np.float32] = (value * saturation.clip(0, 255) * (2 / (85 * 255))).astype(np.float32)
    return taken.ravel()


_TABLES: dict[str, Callable[[], NDArray[Any]]] = {
    "hue": _hues,
    "chroma": _chromas,
    "centre": lambda: np.array([127.5, 85, 170], np.float32).reshape(3, 1, 1),
    "offset": lambda: np.array([85, 42.5, 42.5], np.float32).reshape(3, 1, 1),
}


@lru_cache
def _table(name: str, device: "torch.device | None") -> Array:
    if device is None:
        return _TABLES[name]()
    import torch

    return torch.from_numpy(_table(name, None)).to(device)


def constant(name: str, beside: Array) -> Array:
    """A whole table, on the device of the array `beside`."""
    return _table(name, None if isinstance(beside, np.ndarray) else beside.device)


def look_up(name: str, place: Array) -> Array:
    """Entries of a table.

    Args:
        name: of the table.
        place: indices of the entries, as float32 integers.
    """
    if isinstance(place, np.ndarray):
        return _table(name, None).take(place.astype(np.int64))
    table = _table(name, place.device)
    return table.index_select(0, place.int().reshape(-1)).view(place.shape)
