"""Huffman decoding of a baseline JPEG's only scan (ITU-T T.81, F.2.2), of all MCUs or of a rectangle of them.

An MCU (minimum coded unit) is the smallest piece of a scan that holds all components: 16x16 pixels in 4:2:0.
Each is coded as differences from the one before it, and its place in the bytes is known only once all before
it are decoded. An *entry point* is what decoding needs to begin at an MCU: the bit, and the predictors.

    n blocks of 8x8 coefficients, c components, m tables, e entry points
"""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import inlined, int64, kernel, part, pointer
from recon.kernels.huffman import FOUND, LOOK, SLOW, VALUE, Bytes, Fast, Numbers

Input = tuple[Bytes, int, Fast, Numbers]
"""The scan, its size, `fast` and `slow` (see `build_table`), as pointers."""
Reader = tuple[int, int, int, int]
"""Where decoding is in the scan: the bits at hand, of which the last `left` are still to be used; `left`; the
byte after them; how many bits at the end of those at hand are zeros from behind the last ones."""

ENOUGH = 32
"""A symbol and its value have at most 16 and 15 bits: so many bits at hand are enough for both."""

NATURAL = np.array(
    sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8)), np.int64
)
"""(64,) where each coefficient of the zigzag order lies in its block, 8 * row + column."""

FINE, BROKEN, UNLIKE = 0, 1, 2
"""Results: all is decoded; the data are damaged; the data do not agree with the entry points."""


@part
def _more_slowly(data: Input, acc: int, left: int, place: int, lacking: int) -> Reader:
    """`_more`, byte by byte."""
    scan, size, _, _ = data
    while left < ENOUGH:
        byte = 0
        if place >= size:
            lacking += 8
        elif scan[place] != 255:
            byte = int64(scan[place])
            place += 1
        elif place + 1 < size and scan[place + 1] == 0:  # a stuffed 0xFF
            byte = 255
            place += 2
        else:  # a marker
            lacking += 8
        acc = acc << 8 | byte
        left += 8
    return acc, left, place, lacking


@inlined
def _more(data: Input, acc: int, left: int, place: int, lacking: int) -> Reader:
    """Brings the bits at hand to `ENOUGH`; behind the last ones zeros, which `lacking` counts."""
    scan, size, _, _ = data
    if place + 4 > size:
        return _more_slowly(data, acc, left, place, lacking)
    word = (
        int64(scan[place]) << 24
        | int64(scan[place + 1]) << 16
        | int64(scan[place + 2]) << 8
        | int64(scan[place + 3])
    )
    if ((word & 0x7F7F7F7F) + 0x01010101) & word & 0x80808080:  # one of them is 0xFF
        return _more_slowly(data, acc, left, place, lacking)
    return acc << 32 | word, left + 32, place + 4, lacking


@part
def _long(slow: Numbers, acc: int, left: int, table: int) -> int:
    """What a look-up would find of a code that is longer than `LOOK`; 0 if there is no such code."""
    for length in range(LOOK + 1, 17):
        code = acc >> (left - length) & ((1 << length) - 1)
        if code <= slow[table * SLOW + length]:
            number = code + slow[table * SLOW + 17 + length]
            symbol = slow[table * SLOW + 34 + (number & 255)]
            return int(length | (symbol >> 4) << 5 | (symbol & 15) << 9 | FOUND)
    return 0


@inlined
def _symbol(
    data: Input, acc: int, left: int, place: int, lacking: int, table: int
) -> tuple[int, int, int, int, int]:
    """What a look-up finds of the next symbol, 0 if nothing; and the reader behind it."""
    _, _, fast, slow = data
    if left < ENOUGH:
        acc, left, place, lacking = _more(data, acc, left, place, lacking)
    found = int64(fast[table << LOOK | (acc >> (left - LOOK) & ((1 << LOOK) - 1))])
    if found == 0:
        found = _long(slow, acc, left, table)
    return found, acc, left - (found & 31), place, lacking


@inlined
def _value(acc: int, left: int, size: int) -> int:
    """The value of the next `size` bits, 0 to 15."""
    bits = acc >> (left - size) & ((1 << size) - 1)
    # Values whose first bit is 0 are negative (T.81, table F.1); the mask saves a branch.
    is_positive = bits >> (size - 1) if size else 1
    return bits + (is_positive - 1 & 1 - (1 << size))


@inlined
def _mcu(
    data: Input,
    reader: Numbers,
    parts: Numbers,
    unit: int,
    predictors: Numbers,
    natural: Numbers,
    x: int,
    y: int,
    blocks: NDArray[np.int16],
) -> bool:
    """Decodes an MCU of the rectangle, or passes over it if x is below 0; returns whether that was possible.

    All arrays are pointers, because counting references to arrays would take most of the time.
    """
    acc, left, place, lacking = reader[0], reader[1], reader[2], reader[3]
    for number in range(0, 6 * unit, 6):
        component, dc, ac = parts[number], parts[number + 1], parts[number + 2]
        at = parts[number + 3] + x * parts[number + 4] + y * parts[number + 5]
        found, acc, left, place, lacking = _symbol(data, acc, left, place, lacking, dc)
        if not found:
            return False
        if found & VALUE:
            predictors[component] += found >> 16
        else:
            size = found >> 9 & 15
            predictors[component] += _value(acc, left, size)
            left -= size
        if x >= 0:
            for k in range(64):
                blocks[64 * at + k] = 0
            blocks[64 * at] = predictors[component]
        k = 1
        while k < 64:
            found, acc, left, place, lacking = _symbol(data, acc, left, place, lacking, ac)
            zeros, size = found >> 5 & 15, found >> 9 & 15
            if not size:
                if not found:
                    return False
                if zeros < 15:  # the end of the block
                    break
                k += 16
                continue
            k += zeros
            if k > 63:
                return False
            value = found >> 16
            if not found & VALUE:
                value = _value(acc, left, size)
                left -= size
            if x >= 0:
                blocks[64 * at + natural[k]] = value
            k += 1
        if k > 64:
            return False
    reader[0], reader[1], reader[2], reader[3] = acc, left, place, lacking
    return bool(lacking <= left)  # otherwise zeros were taken for data


@part
def _start(data: Input, reader: Numbers, bit: int) -> None:
    """Sets the reader to a bit of the scan."""
    acc, left, place, lacking = _more(data, 0, 0, bit >> 3, 0)
    reader[0], reader[1], reader[2], reader[3] = acc, left - (bit & 7), place, lacking


@part
def _bit(scan: Bytes, reader: Numbers) -> int:
    """The bit of the scan at which the reader is."""
    left, place = reader[1] - reader[3], reader[2]
    for _ in range((left + 7) // 8):
        place -= 1
        if scan[place] == 0 and place > 0 and scan[place - 1] == 255:
            place -= 1
    return int(8 * place + -left % 8)


@part
def _restart(data: Input, reader: Numbers, predictors: Numbers, number: int) -> bool:
    """Sets the reader behind the restart marker with a number 0..7; returns whether it is there."""
    scan, size, _, _ = data
    place = reader[2]
    if place + 2 > size or scan[place] != 255 or scan[place + 1] != 0xD0 + number:
        return False
    _start(data, reader, 8 * (place + 2))
    for component in range(4):
        predictors[component] = 0
    return True


@kernel("i8(Array(u1, 1, 'C', True), i8[::1], i8[:,::1], i4[::1], i8[:,::1], i8[::1], i8[:,::1], i2[:,::1])")
def decode_rectangle(
    scan: Bytes,
    where: Numbers,
    parts: Numbers,
    fast: Fast,
    slow: Numbers,
    entry_bits: Numbers,
    entry_predictors: Numbers,
    blocks: NDArray[np.int16],
) -> int:
    """Decodes the coefficients of a rectangle of MCUs; each row of it begins at the entry point before it.

    Args:
        scan: the file from its first compressed byte on.
        where: MCUs in a row of the image; MCUs from one restart marker to the next, or 0; MCUs from one entry
            point to the next; columns of the rectangle: first, last + 1; its rows: first, last + 1.
        parts: (u, 6) for each block of an MCU: its component; the table of its DC; that of its AC; the place
            in `blocks` of this block of the rectangle's first MCU; how far it is from there to this block of
            the next MCU across; and down.
        fast: (m * 2**LOOK,), of `build_table`.
        slow: (m, SLOW), of `build_table`.
        entry_bits: (e,) bit of the scan at which each entry point lies.
        entry_predictors: (e, 4) the predictor of each component there.
        blocks: (n, 64) gets the coefficients, quantised, in natural order.

    Returns:
        `FINE`, `BROKEN` or `UNLIKE`.
    """
    wide, restart, step, first_x, last_x, first_y, last_y = where
    predictors, reader = np.empty(4, np.int64), np.empty(4, np.int64)
    data = (pointer(scan), scan.size, pointer(fast), pointer(slow))
    for row in range(first_y, last_y):
        first, last = row * wide + first_x, row * wide + last_x
        start = first // step * step
        for mcu in range(start, last):
            if restart and mcu % restart == 0 and mcu > start:
                number = (mcu // restart - 1) & 7
                if not _restart(data, pointer(reader), pointer(predictors), number):
                    return BROKEN
            if mcu % step == 0:
                entry = mcu // step
                # Where decoding comes to the next one, that must lie there; else it is of other data.
                if mcu == start:
                    _start(data, pointer(reader), entry_bits[entry])
                    predictors[:] = entry_predictors[entry]
                elif _bit(pointer(scan), pointer(reader)) != entry_bits[entry]:
                    return UNLIKE
                elif (predictors != entry_predictors[entry]).any():
                    return UNLIKE
            if not _mcu(
                *(data, pointer(reader), pointer(parts), parts.shape[0], pointer(predictors)),
                *(pointer(NATURAL), mcu - first, row - first_y, pointer(blocks)),
            ):
                return BROKEN
    return FINE


@kernel("i8(Array(u1, 1, 'C', True), i8[::1], i8[:,::1], i4[::1], i8[:,::1], i8[::1], i8[:,::1], i2[:,::1])")
def find_entries(
    scan: Bytes,
    where: Numbers,
    parts: Numbers,
    fast: Fast,
    slow: Numbers,
    entry_bits: Numbers,
    entry_predictors: Numbers,
    blocks: NDArray[np.int16],
) -> int:
    """Decodes a whole scan and fills in its entry points; arguments and result as in `decode_rectangle`.

    Of `where`, the rectangle must be the whole image.
    """
    wide, restart, step, _, _, _, rows = where
    predictors, reader = np.zeros(4, np.int64), np.empty(4, np.int64)
    data = (pointer(scan), scan.size, pointer(fast), pointer(slow))
    _start(data, pointer(reader), 0)
    for mcu in range(wide * rows):
        if restart and mcu and mcu % restart == 0:
            number = (mcu // restart - 1) & 7
            if not _restart(data, pointer(reader), pointer(predictors), number):
                return BROKEN
        if mcu % step == 0:
            entry_bits[mcu // step] = _bit(pointer(scan), pointer(reader))
            entry_predictors[mcu // step] = predictors
        if not _mcu(
            *(data, pointer(reader), pointer(parts), parts.shape[0], pointer(predictors)),
            *(pointer(NATURAL), mcu % wide, mcu // wide, pointer(blocks)),
        ):
            return BROKEN
    return FINE
