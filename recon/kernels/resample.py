"""Computes a part of a bilinearly resized image from the part of the source on which it depends.

The pixels are those of `recon.image.drawing.resize`, which is Pillow's: all arithmetic is in integers.
One axis is resized after the other. A pixel of the result is a weighted mean of those around its place,
rounded to a byte; the weights are fixed-point numbers. Source: Resample.c of Pillow.

    H x W of the source, w columns of the result, t taps
"""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import int64, kernel, part, pointer

Pixels = NDArray[np.uint8]
Taps = NDArray[np.int32]
Size = tuple[int, int]
"""Height and width."""
Box = tuple[int, int, int, int]
"""Top, left, height and width."""

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
    # The weights are not negative: no sum is below 0, nor above 255 but by rounding.
    return np.uint8(min(total >> _i(_BITS), _i(255)))


@part
def _sums(line: Pixels, taps: Taps, count: int) -> tuple[np.int32, np.int32, np.int32]:
    """The weighted sums of some pixels' red, green and blue; arrays are pointers."""
    red = green = blue = _i(1 << (_BITS - 1))
    for k in range(count):
        weight = taps[k]
        red = _i(red + _i(_i(line[3 * k]) * weight))
        green = _i(green + _i(_i(line[3 * k + 1]) * weight))
        blue = _i(blue + _i(_i(line[3 * k + 2]) * weight))
    return red, green, blue


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
    columns = out.shape[1]
    spans = np.empty((columns, 2), np.int64)
    taps = np.empty((columns, _most(size, resized)), np.int32)
    _weights(size, resized, first, spans, taps)
    for row in range(source.shape[0]):
        for number in range(columns):
            line = pointer(source[row, spans[number, 0] - origin :])
            sums = _sums(line, pointer(taps[number]), spans[number, 1])
            for channel in range(3):
                out[row, number, channel] = _byte(sums[channel])


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
