"""JPEG compression and decompression of one image in libjpeg-turbo's integer arithmetic.

The entropy coding is left out, because it is lossless. `train.ops.jpeg` and `train.ops.dct` name the sources.
All numbers are int32, so that SIMD code can do several at a time.

    C = RGB, H x W, h x w their halves rounded up
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recon.image.codec import Pixels
from recon.kernels.compiled import kernel, part, pointer
from recon.kernels.islow import forward, inverse, levels, loaded, places, transposed
from recon.kernels.lanes import Lanes, moved

Plane = NDArray[np.int32]

_i = np.int32  # around each result: numba would otherwise compute with int64
_NARROW = 4  # pixels: as in `train.ops.jpeg`


@part
def _to_ycc(x_CHW: Pixels, height: int, width: int, ycc: Plane) -> None:
    """Converts RGB to YCbCr; outside the image its last line and column repeat."""
    for line in range(ycc.shape[1]):
        y, cb, cr = ycc[0, line], ycc[1, line], ycc[2, line]
        row = min(line, height - 1)
        red, green, blue = x_CHW[0, row], x_CHW[1, row], x_CHW[2, row]
        for i in range(width):
            r, g, b = _i(red[i]), _i(green[i]), _i(blue[i])
            y[i] = _i(_i(19595) * r + _i(38470) * g + _i(7471) * b + _i(32768)) >> _i(16)
            # 8421375 is 128 in 16-bit fixed point, plus a half, minus 1, as in jccolor.c.
            cb[i] = _i(_i(-11059) * r + _i(-21709) * g + _i(32768) * b + _i(8421375)) >> _i(16)
            cr[i] = _i(_i(32768) * r + _i(-27439) * g + _i(-5329) * b + _i(8421375)) >> _i(16)
        y[width:], cb[width:], cr[width:] = y[width - 1], cb[width - 1], cr[width - 1]


@part
def _halve(full: Plane, rows: int, half: Plane) -> None:
    """Means of 2x2 pixels; after the last of `rows`, this row repeats."""
    for line in range(half.shape[0]):
        row = 2 * min(line, rows - 1)
        above, below, out = full[row], full[row + 1], half[line]
        for i in range(out.size):
            total = _i(above[2 * i] + above[2 * i + 1] + below[2 * i] + below[2 * i + 1])
            out[i] = _i(total + _i(1) + _i(i & 1)) >> _i(2)  # rounds halves down and up alternately


def _coded(lines: Sequence[Lanes], steps: Sequence[Lanes]) -> list[Lanes]:
    """The samples of a block, less 128, after the DCT, quantisation and the inverse of both."""
    turned = forward(transposed(lines), 11)
    coefficients = zip(forward(transposed(turned), 15), steps, strict=True)
    lossy = [_quantised(line, step) for line, step in coefficients]
    return transposed(inverse(transposed(inverse(lossy, 11)), 18))


def _quantised(line: Lanes, step: Lanes) -> Lanes:
    """The nearest multiples of the steps; `line` is 8 times the coefficients.

    The float32 division is safe: its rounding never reaches the next integer.
    """
    rounded = line.with_sign_of(line) + step * 4
    return (rounded.over(step * 8) * step).with_sign_of(line)


def _code_block(_: Any, samples: Any, place: Any, wide: Any, steps: Any) -> Any:
    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        samples, place, wide, steps = arguments
        first = moved(builder, samples, place)
        lines = [line - 128 for line in loaded(builder, first, wide)]
        coded = levels(_coded(lines, loaded(builder, steps, 8)))
        for line, at in zip(coded, places(builder, first, wide), strict=True):
            line.store(at)
        return context.get_dummy_value()

    return types.void(samples, place, wide, steps), code


code_block: Any = intrinsic(_code_block)
"""In a kernel: `train.ops.dct.code_blocks` of one block, in place.

Args: pointer to the samples, where among them the block begins, and how far its lines are apart; pointer to
its 64 steps.
"""


@part
def _code_plane(x_HW: Plane, steps_88: Plane) -> None:
    """`train.ops.dct.code_blocks` in place."""
    samples, steps, width = pointer(x_HW), pointer(steps_88), x_HW.shape[1]
    for top in range(0, x_HW.shape[0], 8):
        for left in range(0, width, 8):
            code_block(samples, top * width + left, width, steps)


@part
def _level(x: np.int32) -> np.uint8:
    return np.uint8(min(max(x, _i(0)), _i(255)))


@part
def _double(half: Plane, line: int, height: int, width: int, sums: Plane, out: Plane) -> None:
    """One line of the triangle filter; end samples, and all of a narrow image, are their own neighbours."""
    count, near = (width + 1) // 2, line // 2
    far = min(max(near + 2 * (line & 1) - 1, 0), (height + 1) // 2 - 1)
    far = near if width <= _NARROW else far  # libjpeg does not filter such narrow images
    a, b = half[near], half[far]
    for i in range(count):
        sums[i + 1] = _i(_i(3) * a[i] + b[i])
    sums[0], sums[count + 1] = sums[1], sums[count]
    step = 0 if width <= _NARROW else 1
    for i in range(count):
        most = _i(_i(3) * sums[i + 1])
        out[2 * i] = _i(most + sums[i + 1 - step] + _i(8)) >> _i(4)
        out[2 * i + 1] = _i(most + sums[i + 1 + step] + _i(7)) >> _i(4)


@part
def _to_rgb(luma: Plane, chroma: Plane, height: int, width: int, x_CHW: Pixels) -> None:
    sums = np.empty(chroma.shape[2] + 2, np.int32)
    cb, cr = np.empty(luma.shape[1], np.int32), np.empty(luma.shape[1], np.int32)
    for line in range(height):
        _double(chroma[0], line, height, width, sums, cb)
        _double(chroma[1], line, height, width, sums, cr)
        red, green, blue, y = x_CHW[0, line], x_CHW[1, line], x_CHW[2, line], luma[line]
        for i in range(width):
            b, r = _i(cb[i] - _i(128)), _i(cr[i] - _i(128))
            red[i] = _level(_i(y[i] + (_i(_i(91881) * r + _i(32768)) >> _i(16))))
            green[i] = _level(_i(y[i] + (_i(_i(-22554) * b + _i(-46802) * r + _i(32768)) >> _i(16))))
            blue[i] = _level(_i(y[i] + (_i(_i(116130) * b + _i(32768)) >> _i(16))))


@kernel("void(u1[:,:,::1], i8, i8, i4[:,:,::1])")
def jpeg_image(x_CHW: Pixels, height: int, width: int, steps: NDArray[np.int32]) -> None:
    """Compresses and decompresses the top left of an image in place.

    Args:
        x_CHW: the image.
        height: of the part to compress.
        width: of the part to compress.
        steps: (2, 8, 8), an entry of `train.ops.dct.quality_steps`.
    """
    high, wide = height + -height % 16, width + -width % 16  # whole units of 4:2:0
    ycc = np.empty((3, high, wide), np.int32)
    chroma = np.empty((2, high // 2, wide // 2), np.int32)
    _to_ycc(x_CHW, height, width, ycc)
    _code_plane(ycc[0], steps[0])
    for number in range(2):
        _halve(ycc[1 + number], (height + 1) // 2, chroma[number])
        _code_plane(chroma[number], steps[1])
    _to_rgb(ycc[0], chroma, height, width, x_CHW)
