"""From the coefficients of a JPEG to RGB, in libjpeg-turbo's integer arithmetic.

The inverse "islow" DCT, triangle ("fancy") upsampling, and the conversion of colours. Sources: jidctint.c,
jdsample.c and jdcolor.c of libjpeg-turbo 3. All numbers are int32, so that SIMD code can do several at a
time.

    n blocks of 8x8, H x W samples of a component's rectangle, h x w pixels of the result
"""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import kernel, part

Plane = NDArray[np.uint8]
Lines = NDArray[np.int32]

_i = np.int32  # around each result: numba would otherwise compute with int64


@part
def _level(x: np.int32) -> np.uint8:
    return np.uint8(min(max(x, _i(0)), _i(255)))


@part
def _pass(x: Lines, shift: np.int32, out: Lines) -> None:
    """The inverse DCT of each column of (8, 8), divided by 2**shift and rounded: jidctint.c, one pass."""
    half = _i(1) << _i(shift - 1)
    for i in range(8):
        x0, x1, x2, x3 = x[0, i], x[1, i], x[2, i], x[3, i]
        x4, x5, x6, x7 = x[4, i], x[5, i], x[6, i], x[7, i]
        z1 = _i(_i(x2 + x6) * _i(4433))
        even2, even3 = _i(z1 - _i(x6 * _i(15137))), _i(z1 + _i(x2 * _i(6270)))
        even0, even1 = _i(_i(x0 + x4) << _i(13)), _i(_i(x0 - x4) << _i(13))
        a, d = _i(_i(even0 + even3) + half), _i(_i(even0 - even3) + half)
        b, c = _i(_i(even1 + even2) + half), _i(_i(even1 - even2) + half)
        z1, z2, z3, z4 = _i(x7 + x1), _i(x5 + x3), _i(x7 + x3), _i(x5 + x1)
        z5 = _i(_i(z3 + z4) * _i(9633))
        z1, z2 = _i(z1 * _i(-7373)), _i(z2 * _i(-20995))
        z3, z4 = _i(_i(z3 * _i(-16069)) + z5), _i(_i(z4 * _i(-3196)) + z5)
        odd0 = _i(_i(x7 * _i(2446)) + _i(z1 + z3))
        odd1 = _i(_i(x5 * _i(16819)) + _i(z2 + z4))
        odd2 = _i(_i(x3 * _i(25172)) + _i(z2 + z3))
        odd3 = _i(_i(x1 * _i(12299)) + _i(z1 + z4))
        out[0, i], out[7, i] = _i(a + odd3) >> shift, _i(a - odd3) >> shift
        out[1, i], out[6, i] = _i(b + odd2) >> shift, _i(b - odd2) >> shift
        out[2, i], out[5, i] = _i(c + odd1) >> shift, _i(c - odd1) >> shift
        out[3, i], out[4, i] = _i(d + odd0) >> shift, _i(d - odd0) >> shift


@part
def _turn(x: Lines, out: Lines) -> None:
    for row in range(8):
        for column in range(8):
            out[column, row] = x[row, column]


@kernel("void(i2[:,::1], u1[::1], i4[::1], u1[:,::1])")
def inverse_dct(
    blocks: NDArray[np.int16], lasts: NDArray[np.uint8], steps: NDArray[np.int32], plane: Plane
) -> None:
    """Dequantises the blocks of one component and transforms them to samples.

    Args:
        blocks: (n, 64) quantised coefficients, in natural order; line after line of blocks.
        lasts: (n,) zigzag number of each block's last coefficient that is not zero.
        steps: (64,) of quantisation, in natural order.
        plane: (H, W), multiples of 8, gets the samples.
    """
    x, y = np.empty((8, 8), np.int32), np.empty((8, 8), np.int32)
    wide = plane.shape[1] // 8
    for number in range(blocks.shape[0]):
        top, left = number // wide * 8, number % wide * 8
        block = blocks[number]
        if lasts[number] == 0:  # DC alone
            level = _level(_i(_i(_i(_i(_i(block[0]) * steps[0]) << _i(2)) + _i(16)) >> _i(5)) + _i(128))
            for row in range(8):
                for column in range(8):
                    plane[top + row, left + column] = level
            continue
        for row in range(8):
            for column in range(8):
                x[row, column] = _i(_i(block[8 * row + column]) * steps[8 * row + column])
        _pass(x, _i(11), y)
        _turn(y, x)
        _pass(x, _i(18), y)
        for row in range(8):
            for column in range(8):
                plane[top + row, left + column] = _level(_i(y[column, row] + _i(128)))


@part
def _chroma(plane: Plane, y: int, x: int, size: NDArray[np.int64], sums: Lines, out: Lines) -> None:
    """A line of chroma for the pixels (y, x), (y, x + 1), ... as many as `out` has.

    Args:
        plane: the samples that are at hand.
        y: of the image.
        x: of the image.
        size: 1 or 2 for the halving of rows, and of columns; (height, width) of the whole component; row and
            column of the component at which `plane` begins.
        sums: memory, at least as long as the line has samples.
        out: gets the line.
    """
    down, across, height, width, first_y, first_x = size
    near = y // down
    above, shift = plane[near - first_y], _i(0)
    last = (x + out.size - 1) // across
    first, last = max(x // across - 1, 0), min(last + 1, width - 1)
    if down == 2:
        far = min(max(near + 2 * (y % 2) - 1, 0), height - 1)
        if across == 2 and width <= 2:  # libjpeg does not filter such narrow images
            far = near
        below = plane[far - first_y]
        for i in range(first, last + 1):
            sums[i - first] = _i(_i(3) * _i(above[i - first_x])) + _i(below[i - first_x])
        shift = _i(2)
    else:
        for i in range(first, last + 1):
            sums[i - first] = _i(above[i - first_x])
    if across == 1:
        bias = _i(0) if down == 1 else _i(1 + y % 2)
        for i in range(out.size):
            out[i] = _i(sums[x + i - first] + bias) >> shift
        return
    shift = _i(shift + _i(2))
    biases = (_i(8), _i(7)) if down == 2 else (_i(1), _i(2))
    for i in range(out.size):
        at, odd = (x + i) // 2, (x + i) % 2
        beside = min(max(at + 2 * odd - 1, 0), width - 1)
        if width <= 2:
            beside = at
        bias = biases[1] if odd else biases[0]
        out[i] = _i(_i(_i(_i(3) * sums[at - first]) + sums[beside - first]) + bias) >> shift


@kernel("void(u1[:,::1], u1[:,::1], u1[:,::1], i8[::1], i8, i8, i8, i8, u1[:,:,::1])")
def to_rgb(
    luma: Plane,
    blue: Plane,
    red: Plane,
    size: NDArray[np.int64],
    luma_y: int,
    luma_x: int,
    top: int,
    left: int,
    out_HWC: NDArray[np.uint8],
) -> None:
    """Upsamples chroma and converts to RGB.

    Args:
        luma: samples that are at hand.
        blue: samples of Cb that are at hand.
        red: samples of Cr that are at hand.
        size: see `_chroma`.
        luma_y: row of the image at which `luma` begins.
        luma_x: column of the image at which `luma` begins.
        top: row of the image at which the result begins.
        left: column of the image at which the result begins.
        out_HWC: gets the pixels.
    """
    height, width = out_HWC.shape[:2]
    sums = np.empty(width + 4, np.int32)
    cb, cr = np.empty(width, np.int32), np.empty(width, np.int32)
    for row in range(height):
        _chroma(blue, top + row, left, size, sums, cb)
        _chroma(red, top + row, left, size, sums, cr)
        line, out = luma[top + row - luma_y, left - luma_x :], out_HWC[row]
        for i in range(width):
            y, b, r = _i(line[i]), _i(cb[i] - _i(128)), _i(cr[i] - _i(128))
            out[i, 0] = _level(_i(y + (_i(_i(91881) * r + _i(32768)) >> _i(16))))
            out[i, 1] = _level(_i(y + (_i(_i(-22554) * b + _i(-46802) * r + _i(32768)) >> _i(16))))
            out[i, 2] = _level(_i(y + (_i(_i(116130) * b + _i(32768)) >> _i(16))))
