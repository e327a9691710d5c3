"""Signed integers in few bytes: zigzag and LEB128, as in Protocol Buffers."""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import int64, kernel

MOST_BYTES = 10
"""Of a number."""


@kernel("i8(i8[::1], u1[::1])", nogil=False)
def write_varints(numbers: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
    """Writes numbers; returns how many bytes they took.

    Args:
        numbers: (n,) between -2**62 and 2**62.
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


@kernel("b1(Array(u1, 1, 'C', True), i8[::1])", nogil=False)
def read_varints(data: NDArray[np.uint8], out: NDArray[np.int64]) -> bool:
    """Reads as many numbers as `out` has; returns whether `data` holds exactly these."""
    place = 0
    for number in range(out.size):
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
        out[number] = value >> 1 ^ -(value & 1)
    return place == data.size
