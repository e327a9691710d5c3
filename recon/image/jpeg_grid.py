"""Finds the 8x8 grid that an earlier JPEG compression left in pixels, whatever format they are stored in now.

JPEG rounds most middle and high frequencies of its blocks to zero. Decoded again and cut into 8x8 blocks at
the same place, they are still near zero; cut at any other place, they are not. So the pixels are cut at all
64 places (*phases*), and the near-zero coefficients are counted. A JPEG's phase stands out alone: far above
all that share neither its rows nor its columns. Without JPEG the counts of all phases lie close together.
After Fan and de Queiroz, Identification of bitmap compression history, 2003. All arithmetic is in integers,
so the answer is the same on every processor.
"""

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from recon.image.dct import HALF

LEAST_SIDE = 64
"""Images with a shorter side get no answer: too few blocks."""

_SIDE = 320  # pixels: only the central part of larger images is looked at, which bounds the time
_LUMA = (77, 150, 29)  # 256 times the weights of R, G, B in JPEG (ITU-R BT.601)
_FREQUENCIES = ((2, 3), (3, 2), (4, 5), (5, 4), (2, 5), (5, 2))  # (down, across); more add time, little else
_HALF_LEVEL = 1 << 19  # a coefficient of .5, larger than most that rounding to pixels makes of zero
_FEWEST = 100  # the phase must lead by one in so many coefficients, or flat images would answer by chance

Integers = NDArray[np.int32]


def jpeg_phase(pixels: Pixels) -> int:
    """Where the 8x8 grid of an earlier JPEG compression lies.

    Only luma is looked at. Decoders that upsample eightfold and drawings on an 8-pixel grid may be taken for
    JPEG. Compression with steps of about 1 (quality 99 and 100) leaves nothing to find; scaling removes what
    there was.

    Args:
        pixels: (H, W, 1) or (H, W, 3) uint8.

    Returns:
        8 * row + column of the first block corner, 0..63; -1 if none is found or a side is below
        `LEAST_SIDE`.
    """
    if min(pixels.shape[:2]) < LEAST_SIDE:
        return -1
    top, left = (max(0, side - _SIDE) // 2 // 8 * 8 for side in pixels.shape[:2])
    zeros = _zeros_by_phase(_luma(pixels[top : top + _SIDE, left : left + _SIDE]))
    best = int(zeros.argmax())
    row, column = divmod(best, 8)
    # A grid raises the counts of its own rows and its own columns too; the others show what chance does.
    others = np.delete(np.delete(zeros, row, axis=0), column, axis=1)
    lead, spread = int(zeros.max() - others.max()), int(others.max() - others.min())
    blocks = (min(pixels.shape[0], _SIDE) - 7) // 8 * ((min(pixels.shape[1], _SIDE) - 7) // 8)
    stands_out = 2 * lead > 3 * spread and _FEWEST * lead > blocks * len(_FREQUENCIES)
    return best if stands_out else -1


def _luma(pixels: Pixels) -> Integers:
    """(H, W) luma, 16 times its level, around 0."""
    if pixels.shape[2] == 1:
        return (pixels[..., 0].astype(np.int32) - 128) * 16
    # By channel: a product of integer matrices is ten times slower.
    red, green, blue = (pixels[..., channel] * np.int32(_LUMA[channel]) for channel in range(3))
    luma: Integers = (red + green + blue + 8 - (128 << 8)) >> 4
    return luma


def _zeros_by_phase(luma: Integers) -> NDArray[np.int64]:
    """(8, 8) number of near-zero coefficients of the blocks at each phase, all frequencies together."""
    down = {frequency: (_wave(luma, frequency) + 4096) >> 13 for frequency in {v for v, _ in _FREQUENCIES}}
    counts = np.zeros((8, 8), np.int64)
    for vertical, across in _FREQUENCIES:
        # Contiguous after the transpose, which makes the additions twice as fast.
        coefficients = _wave(np.ascontiguousarray(down[vertical].T), across)
        counts += _by_phase(np.abs(coefficients) <= _HALF_LEVEL).T
    return counts


def _wave(luma: Integers, frequency: int) -> Integers:
    """(H - 7, W) cosine coefficients of each 8 pixels down, sqrt(8) * 2^13 times the orthonormal ones."""
    height, sign = len(luma) - 7, -1 if frequency % 2 else 1
    total = np.zeros((height, luma.shape[1]), np.int32)
    for place, factor in enumerate(HALF[frequency]):  # the right half mirrors the left, with this sign
        total += factor * (luma[place : place + height] + sign * luma[7 - place : 7 - place + height])
    return total


def _by_phase(near_zero: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(8, 8) sums over each eighth row and column, of whole blocks alone, so that all phases have as many."""
    rows, columns = (side // 8 for side in near_zero.shape)
    blocks = near_zero[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8)
    return np.asarray(blocks.sum(axis=0, dtype=np.uint16).sum(axis=1, dtype=np.int64))
