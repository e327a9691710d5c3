"""From the coefficients of a JPEG to RGB, in libjpeg-turbo's integer arithmetic.

The inverse "islow" DCT, triangle ("fancy") upsampling, and the conversion of colours. Sources: jidctint.c,
jdsample.c and jdcolor.c of libjpeg-turbo 3. All numbers are int32, so that SIMD code can do several at a
time.

    n blocks of 8x8, H x W samples of a component's rectangle, h x w pixels of the result
"""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import kernel, part, pointer, transpose, transpose_to_levels

Plane = NDArray[np.uint8]
Lines = NDArray[np.int32]
Coefficients = NDArray[np.int16]

_TOGETHER = 16  # blocks that are transformed at once: what is between the passes stays in the nearest cache

_i = np.int32  # around each result: numba would otherwise compute with int64


@part
def _level(x: np.int32) -> np.uint8:
    return np.uint8(min(max(x, _i(0)), _i(255)))


@part
def _pass(x: Lines, count: int, shift: np.int32, out: Lines) -> None:
    """The inverse DCT of the first columns of (8, n), over 2**shift, rounded: a pass of jidctint.c."""
    half = _i(1) << _i(shift - 1)
    for i in range(count):
        x0, x1, x2, x3 = x[0, i], x[1, i], x[2, i], x[3, i]
        x4, x5, x6, x7 = x[4, i], x[5, i], x[6, i], x[7, i]
        z1 = _i(_i(x2 + x6) * _i(4433))
        even2, even3 = _i(z1 - _i(x6 * _i(15137))), _i(z1 + _i(x2 * _i(6270)))
        even0, even1 = _i(_i(_i(x0 + x4) << _i(13)) + half), _i(_i(_i(x0 - x4) << _i(13)) + half)
        a, d = _i(even0 + even3), _i(even0 - even3)
        b, c = _i(even1 + even2), _i(even1 - even2)
        z3, z4 = _i(x7 + x3), _i(x5 + x1)
        z5 = _i(_i(z3 + z4) * _i(9633))
        z1, z2 = _i(_i(x7 + x1) * _i(-7373)), _i(_i(x5 + x3) * _i(-20995))
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
def _dequantise(blocks: Coefficients, steps: Lines, count: int, out: Lines) -> None:
    """Lays blocks side by side; all arrays are pointers, the lines of `out` are 8 * _TOGETHER apart."""
    for number in range(count):
        for row in range(8):
            to = 8 * (_TOGETHER * row + number)
            for column in range(8):
                place = 8 * row + column
                out[to + column] = _i(_i(blocks[64 * number + place]) * steps[place])


@kernel("void(i2[:,::1], i4[::1], u1[:,::1])")
def inverse_dct(blocks: Coefficients, steps: Lines, plane: Plane) -> None:
    """Dequantises the blocks of one component and transforms them to samples.

    Args:
        blocks: (n, 64) quantised coefficients, in natural order; line after line of blocks.
        steps: (64,) of quantisation, in natural order.
        plane: (H, W), multiples of 8, gets the samples.
    """
    x, y = np.empty((8, 8 * _TOGETHER), np.int32), np.empty((8, 8 * _TOGETHER), np.int32)
    wide = plane.shape[1] // 8
    for first in range(0, blocks.shape[0], _TOGETHER):
        last = min(first + _TOGETHER, blocks.shape[0])
        count = last - first
        _dequantise(pointer(blocks[first]), pointer(steps), count, pointer(x))
        _pass(x, 8 * count, _i(11), y)
        for number in range(count):
            transpose(pointer(y[0, 8 * number :]), 8 * _TOGETHER, pointer(x[0, 8 * number :]))
        _pass(x, 8 * count, _i(18), y)
        for number in range(count):
            line, column = 8 * ((first + number) // wide), 8 * ((first + number) % wide)
            block, levels = pointer(y[0, 8 * number :]), pointer(plane[line, column:])
            transpose_to_levels(block, 8 * _TOGETHER, levels, plane.shape[1])


@part
def _sums(plane: Plane, y: int, x: int, size: NDArray[np.int64], begin: int, end: int, out: Lines) -> None:
    """A line of chroma between two lines of samples, four times as large if rows are halved.

    Args:
        plane: see `_upsampled`.
        y: see there.
        x: column of the component to which `out` begins.
        size: see there.
        begin: of the numbers in `out` whose samples are at hand; those before get the first one.
        end: the last + 1; those behind get the last one.
        out: gets the line.
    """
    down, across, height, width, first_y, first_x = size
    near = y // down
    far = near
    if down == 2 and not (across == 2 and width <= 2):  # libjpeg does not filter such narrow images
        far = min(max(near + 2 * (y % 2) - 1, 0), height - 1)
    one, other, sums = pointer(plane[near - first_y]), pointer(plane[far - first_y]), pointer(out)
    at = x - first_x
    if down == 1:
        for i in range(begin, end):
            sums[i] = _i(one[at + i])
    else:
        for i in range(begin, end):
            sums[i] = _i(_i(3) * _i(one[at + i])) + _i(other[at + i])
    for i in range(begin):
        sums[i] = sums[begin]
    for i in range(end, out.size):
        sums[i] = sums[end - 1]


@part
def _upsampled(plane: Plane, y: int, x: int, size: NDArray[np.int64], line: Lines, out: Lines) -> int:
    """A line of chroma for the pixels (y, x), (y, x + 1), ... .

    Args:
        plane: the samples that are at hand.
        y: of the image.
        x: of the image.
        size: pixels for each sample down and across, 1 or 2; height and width of the whole component; row and
            column of the component at which `plane` begins.
        line: memory for a line of samples and two more.
        out: gets the line.

    Returns:
        The number in `out` of pixel (y, x), 0 or 1.
    """
    down, across, _, width, _, first_x = size
    # Sample s of the component is number s - first of `line`; the samples at its ends repeat.
    first = x // across - 1
    begin, end = max(first_x - first, 0), min(min(width, first_x + plane.shape[1]) - first, line.size)
    _sums(plane, y, first, size, begin, end, line)
    sums, levels, count = pointer(line), pointer(out), line.size - 2
    if across == 1:
        bias, shift = (_i(1 + y % 2), _i(2)) if down == 2 else (_i(0), _i(0))
        for i in range(count):
            levels[i] = _i(sums[i + 1] + bias) >> shift
        return 0
    even, odd, shift = (_i(8), _i(7), _i(4)) if down == 2 else (_i(1), _i(2), _i(2))
    if width <= 2:
        for i in range(count):
            levels[2 * i] = _i(_i(4) * sums[i + 1] + even) >> shift
            levels[2 * i + 1] = _i(_i(4) * sums[i + 1] + odd) >> shift
        return x % 2
    for i in range(count):
        most = _i(_i(3) * sums[i + 1])
        levels[2 * i] = _i(_i(most + sums[i]) + even) >> shift
        levels[2 * i + 1] = _i(_i(most + sums[i + 2]) + odd) >> shift
    return x % 2


@part
def _convert(luma: Plane, cb: Lines, cr: Lines, count: int, rgb: Plane, out_WC: Plane) -> None:
    """A line of YCbCr to RGB; all arrays are pointers, `rgb` has room for three lines."""
    for i in range(count):
        y, b, r = _i(luma[i]), _i(cb[i] - _i(128)), _i(cr[i] - _i(128))
        rgb[i] = _level(_i(y + (_i(_i(91881) * r + _i(32768)) >> _i(16))))
        rgb[count + i] = _level(_i(y + (_i(_i(-22554) * b + _i(-46802) * r + _i(32768)) >> _i(16))))
        rgb[2 * count + i] = _level(_i(y + (_i(_i(116130) * b + _i(32768)) >> _i(16))))
    for i in range(count):  # apart from the loop above, which is vectorised
        out_WC[3 * i], out_WC[3 * i + 1], out_WC[3 * i + 2] = rgb[i], rgb[count + i], rgb[2 * count + i]


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
        size: see `_upsampled`.
        luma_y: row of the image at which `luma` begins.
        luma_x: column of the image at which `luma` begins.
        top: row of the image at which the result begins.
        left: column of the image at which the result begins.
        out_HWC: gets the pixels.
    """
    height, width = out_HWC.shape[:2]
    samples = width // size[1] + 2
    line = np.empty(samples + 2, np.int32)
    cb, cr = np.empty(2 * samples, np.int32), np.empty(2 * samples, np.int32)
    rgb = np.empty(3 * width, np.uint8)
    for row in range(height):
        _upsampled(blue, top + row, left, size, line, cb)
        first = _upsampled(red, top + row, left, size, line, cr)
        levels = pointer(luma[top + row - luma_y, left - luma_x :])
        _convert(levels, pointer(cb[first:]), pointer(cr[first:]), width, pointer(rgb), pointer(out_HWC[row]))
