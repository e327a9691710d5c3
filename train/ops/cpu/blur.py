"""The Gaussian blur of one pair, with the additions in scipy's order: see `train.ops.blur`."""

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from recon.kernels.compiled import kernel, part

_PART = 1024  # float64 sums that are computed together, so that they stay in the L1 cache


@part
def _begin(total: NDArray[np.float64], x: Pixels, weight: float) -> None:
    for i in range(total.size):
        total[i] = x[i] * weight


@part
def _add(total: NDArray[np.float64], x: Pixels, y: Pixels, weight: float) -> None:
    for i in range(total.size):
        total[i] += np.float64(np.int32(x[i]) + np.int32(y[i])) * weight


@part
def _truncate(total: NDArray[np.float64], out: Pixels) -> None:
    for i in range(total.size):
        out[i] = np.int32(total[i])


@part
def _correlate(x_N: Pixels, weights_D: NDArray[np.float64], step: int, out_N: Pixels) -> None:
    """Filters along pixels that are `step` apart; `out_N[0]` is for the pixel D - 1 steps after `x_N[0]`."""
    sums = np.empty(_PART)
    for first in range(0, out_N.size, _PART):
        count = min(_PART, out_N.size - first)
        total = sums[:count]
        centre = first + (weights_D.size - 1) * step
        _begin(total, x_N[centre : centre + count], weights_D[0])
        for distance in range(weights_D.size - 1, 0, -1):  # inwards, in scipy's order
            before, after = centre - distance * step, centre + distance * step
            _add(total, x_N[before : before + count], x_N[after : after + count], weights_D[distance])
        _truncate(total, out_N[first : first + count])


@kernel("void(u1[:,:,::1], f8[::1], u1[:,:,::1])")
def blur_planes(x_NHW: Pixels, weights_D: NDArray[np.float64], out_NHW: Pixels) -> None:
    """Blurs planes, first down the columns, then along the rows.

    Args:
        x_NHW: planes with a margin of D - 1 pixels on each side.
        weights_D: weights by the distance from the centre.
        out_NHW: gets the result, without the margin.
    """
    planes, height, width = out_NHW.shape
    wide, margin = x_NHW.shape[2], weights_D.size - 1
    lines = np.empty(height * wide, np.uint8)
    levels = np.empty(height * wide, np.uint8)
    for plane in range(planes):
        # The plane is filtered as one long row of pixels. At the ends of its lines two lines mix; these
        # pixels are in the margin and are not copied.
        _correlate(x_NHW[plane].ravel(), weights_D, wide, lines)
        _correlate(lines, weights_D, 1, levels[: lines.size - 2 * margin])
        for y in range(height):
            out_NHW[plane, y] = levels[y * wide : y * wide + width]
