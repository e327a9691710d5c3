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
    """The inverse DCT of each column of (8, n), divided by 2**shift and rounded: one pass of jidctint.c."""
    half = _i(1) << _i(shift - 1)
    for i in range(x.shape[1]):
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


@kernel("void(i2[:,::1], i4[::1], u1[:,::1])")
def inverse_dct(blocks: NDArray[np.int16], steps: NDArray[np.int32], plane: Plane) -> None:
    """Dequantises the blocks of one component and transforms them to samples.

    Args:
        blocks: (n, 64) quantised coefficients, in natural order; line after line of blocks.
        steps: (64,) of quantisation, in natural order.
        plane: (H, W), multiples of 8, gets the samples.
    """
    width = plane.shape[1]
    x, y = np.empty((8, width), np.int32), np.empty((8, width), np.int32)
    for top in range(0, plane.shape[0], 8):
        first = top * width // 64
        for left in range(0, width, 8):
            for place in range(64):
                x[place >> 3, left + (place & 7)] = _i(_i(blocks[first + left // 8, place]) * steps[place])
        _pass(x, _i(11), y)
        for left in range(0, width, 8):
            for row in range(8):
                for column in range(8):
                    x[column, left + row] = y[row, left + column]
        _pass(x, _i(18), y)
        for left in range(0, width, 8):
            for row in range(8):
                for column in range(8):
                    plane[top + row, left + column] = _level(_i(y[column, left + row] + _i(128)))


@part
def _sum(near: Plane, far: Plane, down: int, sums: Lines) -> None:
    """A line of chroma between two lines of samples, four times as large if rows are halved."""
    if down == 1:
        sums[:] = near[: sums.size]
        return
    for i in range(sums.size):
        sums[i] = _i(_i(3) * _i(near[i])) + _i(far[i])


@part
def _chroma(plane: Plane, y: int, x: int, size: NDArray[np.int64], sums: Lines, out: Lines) -> int:
    """A line of chroma for the pixels (y, x), (y, x + 1), ... .

    Args:
        plane: the samples that are at hand.
        y: of the image.
        x: of the image.
        size: pixels for each sample down and across, 1 or 2; height and width of the whole component; row and
            column of the component at which `plane` begins.
        sums: memory for a line of samples and two more.
        out: gets the line.

    Returns:
        The number in `out` of pixel (y, x), 0 or 1.
    """
    down, across, height, width, first_y, first_x = size
    near = y // down
    far = near
    if down == 2 and not (across == 2 and width <= 2):  # libjpeg does not filter such narrow images
        far = min(max(near + 2 * (y % 2) - 1, 0), height - 1)
    # Sample s of the component is number s - first of `sums`; the samples at its ends repeat.
    first = x // across - 1
    begin, end = max(first_x - first, 0), min(min(width, first_x + plane.shape[1]) - first, sums.size)
    _sum(
        plane[near - first_y, first + begin - first_x :],
        plane[far - first_y, first + begin - first_x :],
        down,
        sums[begin:end],
    )
    sums[:begin], sums[end:] = sums[begin], sums[end - 1]
    if across == 1:
        bias, shift = (_i(1 + y % 2), _i(2)) if down == 2 else (_i(0), _i(0))
        for i in range(sums.size - 2):
            out[i] = _i(sums[i + 1] + bias) >> shift
        return 0
    even, odd, shift = (_i(8), _i(7), _i(4)) if down == 2 else (_i(1), _i(2), _i(2))
    beside = 0 if width <= 2 else 1
    for i in range(sums.size - 2):
        most = _i(_i(3) * sums[i + 1])
        out[2 * i] = _i(_i(most + sums[i + 1 - beside]) + even) >> shift
        out[2 * i + 1] = _i(_i(most + sums[i + 1 + beside]) + odd) >> shift
    return x % 2


@part
def _convert(luma: Plane, cb: Lines, cr: Lines, rgb: Plane) -> None:
    """A line of YCbCr to one of RGB, (3, w)."""
    red, green, blue = rgb[0], rgb[1], rgb[2]
    for i in range(rgb.shape[1]):
        y, b, r = _i(luma[i]), _i(cb[i] - _i(128)), _i(cr[i] - _i(128))
        red[i] = _level(_i(y + (_i(_i(91881) * r + _i(32768)) >> _i(16))))
        green[i] = _level(_i(y + (_i(_i(-22554) * b + _i(-46802) * r + _i(32768)) >> _i(16))))
        blue[i] = _level(_i(y + (_i(_i(116130) * b + _i(32768)) >> _i(16))))


@part
def _weave(rgb: Plane, out_WC: Plane) -> None:
    """(3, w) to (w, 3); apart from `_convert`, whose loop is vectorised."""
    red, green, blue = rgb[0], rgb[1], rgb[2]
    for i in range(rgb.shape[1]):
        out_WC[i, 0], out_WC[i, 1], out_WC[i, 2] = red[i], green[i], blue[i]


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
    samples = width // size[1] + 2
    sums = np.empty(samples + 2, np.int32)
    cb, cr = np.empty(2 * samples, np.int32), np.empty(2 * samples, np.int32)
    rgb = np.empty((3, width), np.uint8)
    for row in range(height):
        _chroma(blue, top + row, left, size, sums, cb)
        first = _chroma(red, top + row, left, size, sums, cr)
        line = luma[top + row - luma_y, left - luma_x :]
        _convert(line, cb[first:], cr[first:], rgb)
        _weave(rgb, out_HWC[row])
