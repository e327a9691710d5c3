"""Computes a part of a bilinearly resized image from the part of the source on which it depends.

The pixels are those of `recon.image.drawing.resize`, which is Pillow's: all arithmetic is in integers.
One axis is resized after the other. A pixel of the result is a weighted mean of those around its place,
rounded to a byte; the weights are fixed-point numbers. Source: Resample.c of Pillow.

    H x W of the source, w columns of the result, t taps
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recon.kernels.compiled import int64, kept, kernel, part, pointer
from recon.kernels.lanes import Lanes, load, moved, sums

Pixels = NDArray[np.uint8]
Taps = NDArray[np.int32]
Size = tuple[int, int]
"""Height and width."""
Box = tuple[int, int, int, int]
"""Top, left, height and width."""

_GROUP = 8  # pixels: their 24 bytes fill three of the processor's vectors
_BITS = 22  # behind the point of a weight: PRECISION_BITS of Resample.c

_i = np.int32


@part
def _first(centre: float, reach: float) -> int:
    return int(max(int64(centre - reach + 0.5), 0))


@kernel("UniTuple(i8, 2)(i8, i8, i8, i8)")
def source_span(size: int, resized: int, first: int, last: int) -> tuple[int, int]:
    """The first place of the source, and the last + 1, on which places `first` to `last` - 1 depend.

    Args:
        size: of the source along the axis.
        resized: of the whole result along the axis.
        first: of the result.
        last: of the result, excluded.
    """
    scale = size / resized
    reach = max(scale, 1.0)
    return (
        _first((first + 0.5) * scale, reach),
        min(int64((last - 0.5) * scale + reach + 0.5), size),
    )


@part
def _weights(size: int, resized: int, first: int, spans: NDArray[np.int64], taps: Taps) -> None:
    """The weights of the triangle filter for some places along an axis.

    Args:
        size: see `source_span`.
        resized: see `source_span`.
        first: place of the result to which the first row belongs.
        spans: (w, 2) gets the first place of the source, and how many.
        taps: (w, t) gets their weights.
    """
    scale = size / resized
    reach = max(scale, 1.0)
    exact = np.empty(taps.shape[1], np.float64)
    for number in range(taps.shape[0]):
        centre = (first + number + 0.5) * scale
        start = _first(centre, reach)
        count = min(int64(centre + reach + 0.5), size) - start
        total = 0.0
        for k in range(count):
            exact[k] = max(1.0 - abs((k + start - centre + 0.5) * (1.0 / reach)), 0.0)
            total += exact[k]
        spans[number, 0], spans[number, 1] = start, count
        for k in range(count):
            taps[number, k] = int64(0.5 + exact[k] / total * (1 << _BITS))


@part
def _most(size: int, resized: int) -> int:
    """How many taps a pixel has at most."""
    return int(2 * max(size / resized, 1.0)) + 2


@part
def _byte(total: np.int32) -> np.uint8:
    return np.uint8(min(total >> _i(_BITS), _i(255)))


def _folded(total: list[Lanes]) -> Lanes:
    """Red, green and blue of 24 numbers, the colours in turn; and a fourth number without meaning."""
    first = total[0] + total[1].picked(range(4, 12), total[2])
    last = total[1].picked(range(4)) + total[2].picked(range(4, 8))
    low, high = first.picked(range(4)), first.picked(range(4, 8))
    half = low + low.picked(range(3, 7), high)
    return half + high.picked(range(2, 6), last) + last.picked((1, 2, 3, 3))


def _pixel(_: Any, line: Any, begin: Any, taps: Any, first: Any, groups: Any, out: Any, place: Any) -> Any:
    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        line, begin, taps, first, groups, out, place = arguments
        line, taps = moved(builder, line, begin), moved(builder, taps, first)

        def products(group: Any) -> list[Lanes]:
            at = builder.mul(group, context.get_constant(types.int64, 3 * _GROUP))
            levels, weights = moved(builder, line, at), moved(builder, taps, at)
            octets = [(moved(builder, levels, place), moved(builder, weights, place)) for place in (0, 8, 16)]
            return [load(builder, one, 8) * load(builder, other, 8) for one, other in octets]

        total = _folded(sums(builder, groups, 3, products)) + (1 << (_BITS - 1))
        # The weights are not negative: no sum is below 0, nor above 255 but by rounding.
        (total >> _BITS).at_most(255).picked(range(3)).store_bytes(moved(builder, out, place))
        return context.get_dummy_value()

    return types.void(line, begin, taps, first, groups, out, place), code


pixel: Any = intrinsic(_pixel)
"""In a kernel: computes a pixel from a part of a line, `_GROUP` pixels of it at a time.

Args: pointer to pixels, and the number of the first byte; pointer to the weight of each byte, and where those
of this pixel begin; how many groups; pointer to the result, and where this pixel's bytes begin.
"""


@part
def _weights_of_bytes(
    spans: NDArray[np.int64], taps: Taps, wide: int, begins: NDArray[np.int64], weights: Taps
) -> None:
    """Arranges weights for `pixel`: a group ends at the last pixel of a line at the latest.

    Args:
        spans: see `_weights`, from the first pixel of a line that is at hand.
        taps: see there.
        wide: pixels of a line that are at hand, `_GROUP` for each group at least.
        begins: (w,) gets the first byte.
        weights: (w, bytes) gets the weight of each byte.
    """
    most = weights.shape[1] // 3
    for number in range(len(begins)):
        begin = min(spans[number, 0], wide - most)
        begins[number] = 3 * begin
        for k in range(spans[number, 1]):
            for channel in range(3):
                weights[number, 3 * (spans[number, 0] - begin + k) + channel] = taps[number, k]


@kernel("void(Array(u1, 3, 'C', True), i8, i8, i8, i8, u1[:,:,::1])")
def along_rows(source: Pixels, size: int, resized: int, origin: int, first: int, out: Pixels) -> None:
    """Changes the length of rows.

    Args:
        source: (H, W, 3), the columns on which the result depends (see `source_span`), at least.
        size: columns of the whole source.
        resized: columns of the whole result.
        origin: column of the whole source at which `source` begins.
        first: column of the whole result at which `out` begins.
        out: (H, w, 3) gets the result.
    """
    (rows, columns, _), wide = out.shape, source.shape[1]
    spans = np.empty((columns, 2), np.int64)
    taps = np.empty((columns, _most(size, resized)), np.int32)
    _weights(size, resized, first, spans, taps)
    spans[:, 0] -= origin
    groups = -(-taps.shape[1] // _GROUP)
    short = max(groups * _GROUP - wide, 0)  # pixels that lines lack: they get some, of the weight 0
    if short:
        longer = np.zeros((rows, wide + short, 3), np.uint8)
        longer[:, :wide] = source
        source = longer
    begins = np.empty(columns, np.int64)
    weights = np.zeros((columns, 3 * groups * _GROUP), np.int32)
    _weights_of_bytes(spans, taps, wide + short, begins, weights)
    lines, factors, results = pointer(source), pointer(weights), pointer(out)
    for row in range(rows):
        for number in range(columns):
            begin = 3 * row * (wide + short) + begins[number]
            to = 3 * (row * columns + number)
            pixel(lines, begin, factors, number * weights.shape[1], groups, results, to)
    kept((source, weights))


@kernel("void(Array(u1, 3, 'C', True), i8, i8, i8, i8, u1[:,:,::1])")
def along_columns(source: Pixels, size: int, resized: int, origin: int, first: int, out: Pixels) -> None:
    """Changes the length of columns; arguments as in `along_rows`, for the other axis."""
    rows, bytes_wide = out.shape[0], 3 * out.shape[1]
    spans, taps = np.empty((rows, 2), np.int64), np.empty((rows, _most(size, resized)), np.int32)
    _weights(size, resized, first, spans, taps)
    sums = np.empty(bytes_wide, np.int32)
    for row in range(rows):
        sums[:] = _i(1 << (_BITS - 1))
        for k in range(spans[row, 1]):
            weight, line = taps[row, k], pointer(source[spans[row, 0] - origin + k])
            for i in range(bytes_wide):
                sums[i] += _i(_i(line[i]) * weight)
        result = pointer(out[row])
        for i in range(bytes_wide):
            result[i] = _byte(sums[i])


def source_of(size: Size, resized: Size, box: Box) -> Box:
    """Top, left, height and width of the part of the source on which a part of the result depends.

    Args:
        size: height and width of the source.
        resized: of the whole result.
        box: top, left, height and width of the part of the result.
    """
    (top, bottom), (left, right) = (
        source_span(whole, new, first, first + count)
        for whole, new, first, count in zip(size, resized, box[:2], box[2:], strict=True)
    )
    return top, left, bottom - top, right - left


def resized_part(
    source: Pixels, origin: Size, size: Size, resized: Size, box: Box, *, columns_first: bool
) -> Pixels:
    """Computes a part of a resized image.

    Args:
        source: (H, W, 3) uint8, the pixels of `source_of`.
        origin: row and column of the whole source at which they begin.
        size: see `source_of`.
        resized: see `source_of`.
        box: see `source_of`.
        columns_first: see `recon.image.drawing.columns_first`.

    Returns:
        (h, w, 3) uint8.
    """
    top, left, height, width = box
    down = (size[0], resized[0], origin[0], top)
    across = (size[1], resized[1], origin[1], left)
    out = np.empty((height, width, 3), np.uint8)
    if columns_first:  # in between, levels are rounded: so the order matters
        between = np.empty((height, source.shape[1], 3), np.uint8)
        along_columns(source, *down, between)
        along_rows(between, *across, out)
    else:
        between = np.empty((source.shape[0], width, 3), np.uint8)
        along_rows(source, *across, between)
        along_columns(between, *down, out)
    return out
