"""From the samples of a JPEG's components to RGB, in libjpeg-turbo's integer arithmetic.

Triangle ("fancy") upsampling, and the conversion of colours. Sources: jdsample.c and jdcolor.c of
libjpeg-turbo 3. All numbers are int32, so that SIMD code can do several at a time.

    H x W samples of a component's rectangle, h x w pixels of the result
"""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import kernel, part, pointer

Plane = NDArray[np.uint8]
Lines = NDArray[np.int32]

_i = np.int32  # around each result: numba would otherwise compute with int64


@part
def _level(x: np.int32) -> np.uint8:
    return np.uint8(min(max(x, _i(0)), _i(255)))


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
