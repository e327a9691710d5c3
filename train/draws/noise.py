"""Computes the noise field of a pair, pixel by pixel, from the pair's key."""

from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train.draws.arrays import Array, device_of, moved
from train.order.counter import Words, pixel_words, stream_key, words

if TYPE_CHECKING:
    import torch


def noise_keys(seed: int, epoch: int, ids: Words) -> Words:
    """(n,) int64 keys of the pairs' noise fields; arguments as in `draw_photometric`."""
    return words(stream_key(seed, epoch, "noise.field"), ids)


def noise_levels(keys_n: Words, y_nH: Words, x_nW: Words) -> Words:
    """The noise fields of n pairs: a pure function of (key, y, x, channel).

    Args:
        keys_n: (n,) the result of `noise_keys`.
        y_nH: (n, H) or (1, H) int64 rows of the augmented image.
        x_nW: (n, W) or (1, W) int64 columns of the augmented image.

    Returns:
        (n, 3, H, W) int64 places in `NORMALS`: each channel takes 16 bits of the pixel's 64-bit word.
    """
    words_nHW = pixel_words(keys_n, y_nH, x_nW)
    levels: Words = (words_nHW[:, None] >> _shifts(device_of(keys_n))) & 0xFFFF
    return levels


def _normals() -> NDArray[np.float32]:
    """Quantiles (i + .5) / 65536 of the normal distribution.

    The tails use the logarithm of the C library, and libraries differ in its last bit. But every quantile is
    more than 1e-12, a thousand times that bit, away from the points where the rounding to float32 changes: so
    the table is the same everywhere. The second half mirrors the first, so that the mean is zero.
    """
    quantile = NormalDist().inv_cdf
    half = np.array([quantile((i + 0.5) / 65536) for i in range(32768)]).astype(np.float32)
    return np.concatenate([half, -half[::-1]])


NORMALS = _normals()
"""(65536,) float32: the normal numbers of which noise is made; their variance is 0.99998."""


@lru_cache(maxsize=8)
def _shifts(device: "torch.device | None") -> Array:
    """(3, 1, 1): how many bits a word is shifted to get the 16 bits of each channel."""
    # The lowest 16 bits of a word are not used: three channels need 48.
    return moved(np.array([48, 32, 16], np.int64)[:, None, None], device)
