"""Huffman tables of a JPEG (ITU-T T.81, F.2.2.3), prepared for decoding by `recon.kernels.entropy`."""

import numpy as np
from numpy.typing import NDArray

from recon.kernels.compiled import int64, kernel, part

Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Fast = NDArray[np.int32]

LOOK = 10
"""Bits that are looked up at once."""

SLOW = 17 + 17 + 256
"""Numbers in what is prepared for longer codes."""

VALUE, FOUND = 1 << 13, 1 << 14
"""Marks of what a look-up finds: the value too; a code. Without the second, the code is longer or unknown.

Of its other bits, 0 to 4 say how many bits are used up; 5 to 8, how many zeros come before the coefficient;
9 to 12, how many bits the value has; and those from 16 on are the value.
"""


@part
def _fill_in(fast: NDArray[np.int32], code: int, length: int, symbol: int) -> None:
    """The look-ups of all bits that begin with a code."""
    zeros, size = symbol >> 4, symbol & 15
    free = LOOK - length
    for rest in range(1 << free):
        found = length | zeros << 5 | size << 9 | FOUND
        if size <= free:
            bits = rest >> (free - size)
            value = bits if size == 0 or bits >> (size - 1) else bits - (1 << size) + 1
            found = (length + size) | zeros << 5 | size << 9 | FOUND | VALUE | value << 16
        fast[code << free | rest] = found


@kernel("void(Array(u1, 1, 'C', True), Array(u1, 1, 'C', True), i4[::1], i8[::1])")
def build_table(counts: Bytes, symbols: Bytes, fast: Fast, slow: Numbers) -> None:
    """Prepares a Huffman table.

    Args:
        counts: (16,) how many codes there are of each length from 1 on.
        symbols: their symbols, in the order of the codes; at most 256.
        fast: (2**LOOK,) gets what a look-up finds.
        slow: (SLOW,) gets by length, 0 to 16, the largest code or -1; then by length what to add to a code to
            get the number of its symbol; then the symbols.
    """
    for place in range(fast.size):
        fast[place] = 0
    for place in range(symbols.size):
        slow[34 + place] = symbols[place]
    code, number = 0, 0
    for length in range(1, 17):
        count = int64(counts[length - 1])
        slow[length] = code + count - 1 if count else -1
        slow[17 + length] = number - code
        for _ in range(count):
            if length <= LOOK and code < 1 << length:
                _fill_in(fast, code, length, int64(symbols[number]))
            code += 1
            number += 1
        code *= 2
