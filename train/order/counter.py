"""A counter-based hash: random numbers as a pure function of what they are for.

The same code runs on int64 numpy arrays and torch tensors, on any device, bit for bit. It does not import
torch: a caller with a tensor has imported it already, and the process that reads has no tensors.
"""

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Words = TypeVar("Words", NDArray[np.int64], "torch.Tensor")

# The finaliser and increment of SplitMix64: Steele, Lea, Flood, OOPSLA 2014, as int64.
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64
_STEP = 0x9E3779B97F4A7C15 - 2**64


def signed(word: int) -> int:
    """The int64 with the same 64 bits; for a pair's id, say, which is uint64 in the index."""
    return (word + 2**63) % 2**64 - 2**63


_ROW = signed(_STEP * 2**24)
"""2**24 steps: more than any image is wide, so no two pixels share a place."""


def stream_key(seed: int, epoch: int, name: str) -> int:
    """The int64 that tells one use (`name`) in one epoch of one training run from all others."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def words(key: int | Words, ids: Words, draws: int | Words = 0) -> Words:
    """Uniform int64 words, one for each id.

    Args:
        key: of `stream_key`: an integer, or an array that is broadcast against `ids`, so that one
            call draws for many uses.
        ids: int64 counters or hashes, any shape.
        draws: number of the draw, from 0, where an id needs several: an integer, or an array
            that is broadcast in the same way.
    """
    # A Python integer must be brought into int64 by hand; an array wraps round by itself.
    steps = signed(_STEP * (draws + 1)) if isinstance(draws, int) else (draws + 1) * _STEP
    return _mix(_mix(ids ^ key) + steps)


def uniform(key: int | Words, ids: Words, draws: int | Words = 0) -> Any:
    """Uniform float64 in [0, 1) on a grid of 2**-53; arguments and shape as of `words`."""
    top = _shift_right(words(key, ids, draws), 11)
    return (top if isinstance(top, np.ndarray | np.generic) else top.double()) * 2.0**-53


def pixel_words(keys_n: Words, y_nH: Words, x_nW: Words) -> Words:
    """Uniform int64 words of pixels: a pure function of (key, y, x).

    Args:
        keys_n: (n,) int64 hashes.
        y_nH: (n, H) or (1, H) int64 rows.
        x_nW: (n, W) or (1, W) int64 columns, below 2**24.

    Returns:
        (n, H, W): output number y * 2**24 + x of SplitMix64 with the state `key`. It mixes once for each
        pixel, as the published generator does: half of the cost of `words`. The keys are mixed already.
    """
    rows_nH = keys_n[:, None] + y_nH * _ROW
    return _mix(rows_nH[:, :, None] + ((x_nW + 1) * _STEP)[:, None, :])


def permutation(key: int, count: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1."""
    return np.argsort(words(key, np.arange(count, dtype=np.int64)), kind="stable")


def _mix(x: Words) -> Words:
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Words, bits: int) -> Words:
    """A logical shift: `>>` on int64 would fill up with the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
