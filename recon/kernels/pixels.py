"""From the samples of a JPEG's components to RGB, in libjpeg-turbo's integer arithmetic.

Triangle ("fancy") upsampling, and the conversion of colours. Sources: jdsample.c and jdcolor.c of
libjpeg-turbo 3. The numbers are int16, so that SIMD code can do many at a time; and a group of pixels stays
in the processor's registers from its samples to its colours.

    h x w pixels of the result
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recon.kernels.compiled import kept, kernel, part, pointer
from recon.kernels.lanes import Lanes, load_shorts, moved, shorts

Plane = NDArray[np.uint8]
Line = NDArray[np.int16]

_GROUP = 32  # pixels that are computed together

_s = np.int16  # around each result: numba would otherwise compute with int64


def _rgb(luma: Lanes, blue: Lanes, red: Lanes) -> list[Lanes]:
    """YCbCr to RGB; chroma is without its bias: -128 to 127.

    To luma is added, for red, 91881 times Cr over 2**16, rounded; and so on. Where a factor exceeds int16,
    whole multiples of 2**16 are added apart: 91881 = 65536 + 26345, 116130 = 2 * 65536 - 14942 and
    -46802 = 18734 - 65536. Twice the number times the factor over 2**16, rounded down, then halved, rounded
    to the nearest, is what the number alone would give, rounded to the nearest.
    """
    more_red, more_blue = (
        ((one + one).high(factor) + 1) >> 1 for one, factor in ((red, 26345), (blue, -14942))
    )
    # Products of neighbours are added, for which processors have an instruction (pmaddwd).
    products = blue.in_turn(red).wide() * ([-22554, 18734] * _GROUP)
    total = products.picked(range(0, 2 * _GROUP, 2)) + products.picked(range(1, 2 * _GROUP, 2))
    more_green = ((total + 32768) >> 16).narrow(16)
    levels = (luma + red + more_red, luma - red + more_green, luma + blue + blue + more_blue)
    return [one.at_least(0).at_most(255) for one in levels]


def _as_they_are(builder: Any, line: Any, begin: Any, rounding: list[Any]) -> Lanes:
    """Chroma of a group of pixels that have a sample each."""
    even, _, shift = (shorts(builder, one, _GROUP) for one in rounding)
    samples = load_shorts(builder, moved(builder, line, builder.add(begin, begin.type(1))), _GROUP)
    return (samples + even >> shift) - 128


def _doubled(builder: Any, line: Any, begin: Any, rounding: list[Any]) -> Lanes:
    """Chroma of a group of pixels, two of which lie around each sample."""
    half = _GROUP // 2
    even, odd, shift = (shorts(builder, one, half) for one in rounding)
    first = moved(builder, line, builder.lshr(begin, begin.type(1)))
    left, middle, right = (load_shorts(builder, moved(builder, first, place), half) for place in range(3))
    most = middle * 3
    return (most + left + even >> shift).in_turn(most + right + odd >> shift) - 128


def _pixels_by(upsampled: Any) -> Any:
    """In a kernel: computes `_GROUP` pixels.

    Args: pointers to a line of luma; of Cb and of Cr, as of `_chroma`; which pixel of luma is the first; what
    is added to chroma for rounding, of even pixels and odd ones; the bits that are shifted out then; pointer
    to the result of the line.
    """

    def typed(
        _: Any, luma: Any, blue: Any, red: Any, first: Any, even: Any, odd: Any, shift: Any, out: Any
    ) -> Any:
        def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            luma, blue, red, first, *rounding, out = arguments
            chroma = [upsampled(builder, line, first, rounding) for line in (blue, red)]
            levels = _rgb(load_shorts(builder, moved(builder, luma, first), _GROUP), *chroma)
            reds, greens, blues = (one.narrow(8) for one in levels)
            in_turn = [_GROUP * colour + place for place in range(_GROUP) for colour in range(3)]
            both = reds.picked(range(2 * _GROUP), greens), blues.picked(range(2 * _GROUP))
            both[0].picked(in_turn, both[1]).store(moved(builder, out, builder.mul(first, first.type(3))))
            return context.get_dummy_value()

        return types.void(luma, blue, red, first, even, odd, shift, out), code

    return intrinsic(typed)


as_they_are: Any = _pixels_by(_as_they_are)
doubled: Any = _pixels_by(_doubled)


@part
def _chroma(
    plane: Plane, near: int, far: int, down: int, begin: int, end: int, count: int, out: Line
) -> None:
    """A line of chroma, four times as large if lines are halved.

    Args:
        plane: the samples; all arrays are pointers.
        near: place of the sample in the nearer line that belongs to the first number.
        far: the same in the other line on which it depends.
        down: pixels for each sample.
        begin: the first number whose sample is at hand; those before get the same.
        end: the last + 1; those behind get the same.
        count: of the numbers.
        out: gets them.
    """
    if down == 1:
        for i in range(begin, end):
            out[i] = _s(plane[near + i])
    else:
        for i in range(begin, end):
            out[i] = _s(_s(3 * _s(plane[near + i])) + _s(plane[far + i]))
    for i in range(begin):
        out[i] = out[begin]
    for i in range(end, count):
        out[i] = out[end - 1]


@part
def _line(luma: Plane, blue: Line, red: Line, y: int, down: int, across: int, count: int, out: Plane) -> None:
    """A line of pixels; all arrays are pointers.

    Args:
        luma: its samples.
        blue: Cb, of `_chroma`.
        red: Cr.
        y: row of the image.
        down: pixels for each sample of chroma.
        across: the same along the line.
        count: of the pixels, whole groups.
        out: gets them.
    """
    # What is added for rounding changes from row to row, or from column to column.
    if across == 1:
        even, odd, shift = (1 + (y & 1), 0, 2) if down == 2 else (0, 0, 0)
        for pixel in range(0, count, _GROUP):
            as_they_are(luma, blue, red, pixel, even, odd, shift, out)
    else:
        even, odd, shift = (8, 7, 4) if down == 2 else (1, 2, 2)
        for pixel in range(0, count, _GROUP):
            doubled(luma, blue, red, pixel, even, odd, shift, out)


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
        size: pixels for each sample of chroma, down and across, 1 or 2; height and width of its whole
            components; their row and column at which `blue` and `red` begin.
        luma_y: row of the image at which `luma` begins.
        luma_x: column of the image at which `luma` begins.
        top: row of the image at which the result begins.
        left: column of the image at which the result begins.
        out_HWC: (h, w, 3) gets the pixels.
    """
    down, across, high, wide, first_y, first_x = size
    height, width = out_HWC.shape[:2]
    odd = left % across  # groups begin at the first pixel of a sample
    room = -(-(width + odd) // _GROUP) * _GROUP
    own_luma, own_rgb = np.zeros(room, np.uint8), np.empty(3 * room, np.uint8)
    # The first number is the sample before the first pixel's.
    first, count = left // across - 1, room // across + 2
    begin, end = max(first_x - first, 0), min(min(wide, first_x + blue.shape[1]) - first, count)
    own_blue, own_red = np.empty(count, np.int16), np.empty(count, np.int16)
    line, cb, cr, levels = pointer(own_luma), pointer(own_blue), pointer(own_red), pointer(own_rgb)
    lumas, blues, reds, result = pointer(luma), pointer(blue), pointer(red), pointer(out_HWC)
    for row in range(height):
        y = top + row
        near = far = y >> (down - 1)
        if down == 2:
            far = min(max(near + 2 * (y & 1) - 1, 0), high - 1)
        at = (near - first_y) * blue.shape[1] + first - first_x
        other = at + (far - near) * blue.shape[1]
        _chroma(blues, at, other, down, begin, end, count, cb)
        _chroma(reds, at, other, down, begin, end, count, cr)
        at = (y - luma_y) * luma.shape[1] + left - odd - luma_x
        for i in range(width + odd):
            line[i] = lumas[at + i]
        _line(line, cb, cr, y, down, across, room, levels)
        for i in range(3 * width):
            result[3 * row * width + i] = levels[3 * odd + i]
    kept((own_luma, own_blue, own_red, own_rgb))
