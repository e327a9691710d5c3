"""The inverse "islow" DCT of libjpeg-turbo: from coefficients of a JPEG to samples, in integer arithmetic.

Source: jidctint.c of libjpeg-turbo 3. All numbers are int32, so that SIMD code can do several at a time. The
transposes between its two passes are SIMD shuffles, which numba would not make of loops.

    n blocks of 8x8, H x W samples of a component's rectangle
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recon.kernels.compiled import kernel, part, pointer

Plane = NDArray[np.uint8]
Lines = NDArray[np.int32]
Coefficients = NDArray[np.int16]

_TOGETHER = 16  # blocks that are transformed at once: what is between the passes stays in the nearest cache
_EIGHT: Any = ir.VectorType(ir.IntType(32), 8)

_i = np.int32  # around each result: numba would otherwise compute with int64


def _lines(context: Any, builder: Any, base: Any, wide: Any, kind: Any) -> list[Any]:
    """Pointers to the eight lines of a block, as vectors of a kind."""
    rows = (builder.mul(wide, context.get_constant(types.int64, row)) for row in range(8))
    return [builder.bitcast(builder.gep(base, [row]), kind.as_pointer()) for row in rows]


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """Blocks of 1x1, 2x2 and 4x4 on both sides of the diagonal change places."""
    rows = [builder.load(line, align=4) for line in lines]
    for side in (1, 2, 4):
        low = [n if not n & side else 8 + n - side for n in range(8)]
        high = [n + side if not n & side else 8 + n for n in range(8)]
        for row in (n for n in range(8) if not n & side):
            pair = rows[row], rows[row + side]
            masks = (ir.Constant(_EIGHT, mask) for mask in (low, high))
            rows[row], rows[row + side] = (builder.shuffle_vector(*pair, mask) for mask in masks)
    return rows


def _transpose(_: Any, source: Any, wide: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        source, wide, target = arguments
        rows = _transposed(builder, _lines(context, builder, source, wide, _EIGHT))
        for values, line in zip(rows, _lines(context, builder, target, wide, _EIGHT), strict=True):
            builder.store(values, line, align=4)
        return context.get_dummy_value()

    return types.void(source, wide, target), code


def _transpose_to_levels(_: Any, source: Any, wide: Any, target: Any, target_wide: Any) -> Any:
    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        source, wide, target, target_wide = arguments
        least, most, middle = (ir.Constant(_EIGHT, [level] * 8) for level in (0, 255, 128))
        rows = _transposed(builder, _lines(context, builder, source, wide, _EIGHT))
        octets = ir.VectorType(ir.IntType(8), 8)
        for values, line in zip(rows, _lines(context, builder, target, target_wide, octets), strict=True):
            values = builder.add(values, middle)
            values = builder.select(builder.icmp_signed(">", values, least), values, least)
            values = builder.select(builder.icmp_signed("<", values, most), values, most)
            builder.store(builder.trunc(values, octets), line, align=1)
        return context.get_dummy_value()

    return types.void(source, wide, target, target_wide), code


transpose: Any = intrinsic(_transpose)
"""In a kernel: transposes 8x8 int32, by SIMD shuffles where the processor has them.

Args: pointers to the first number, how many numbers its lines are apart (as those of the result), and the
result.
"""

transpose_to_levels: Any = intrinsic(_transpose_to_levels)
"""In a kernel: the same, plus 128 and clipped to 0..255.

Args: as before; then the result, bytes, and how many bytes its lines are apart.
"""


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
