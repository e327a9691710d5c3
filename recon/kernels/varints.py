"""Signed integers in few bytes: zigzag and LEB128, as in Protocol Buffers."""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import int64, kernel

MOST_BYTES = 9
"""Of a number."""
_MOST = 1 << 60  # of a sum; with one more change it is still an int64


@kernel("i8(i8[::1], u1[::1])", nogil=False)
def write_varints(numbers: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
    """Writes numbers; returns how many bytes they took.

    Args:
        numbers: (n,) more than -2**62 and less than 2**62.
        out: gets the bytes; at least `MOST_BYTES` * n long.
    """
    place = 0
    for number in numbers:
        rest = number << 1 ^ number >> 63
        while rest > 127:
            out[place] = rest & 127 | 128
            rest >>= 7
            place += 1
        out[place] = rest
        place += 1
    return place


@kernel("b1(Array(u1, 1, 'C', True), i8, i8[::1], i8[:,::1])", nogil=False)
def read_sums(
    data: NDArray[np.uint8], columns: int, first: NDArray[np.int64], rest: NDArray[np.int64]
) -> bool:
    """Reads lines of numbers, each of which says how much it differs from the one above it.

    Args:
        data: the numbers, line after line; more may follow.
        columns: numbers in a line, 1 or more.
        first: (n,) gets the first of each line.
        rest: (n, c) gets the others, c is at least `columns` - 1.

    Returns:
        Whether `data` holds so many lines, and the sums of the first numbers begin with 0, never fall, and
        are at most 2**60.
    """
    place = 0
    for line in range(first.size):
        for column in range(columns):
            value, shift = 0, 0
            while True:
                if place >= data.size or shift > 56:
                    return False
                byte = int64(data[place])
                place += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            change = value >> 1 ^ -(value & 1)
            if column:
                rest[line, column - 1] = change + (rest[line - 1, column - 1] if line else 0)
                continue
            first[line] = change + (first[line - 1] if line else 0)
            if change < 0 or (change and not line) or first[line] > _MOST:
                return False
    return True
