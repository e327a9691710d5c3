"""The "islow" DCT of libjpeg-turbo, in parts of kernels; the eight numbers of a line lie side by side.

Sources: jfdctint.c and jidctint.c of libjpeg-turbo 3. All arithmetic is in int32.
"""

from collections.abc import Sequence
from typing import Any

from recon.kernels.lanes import Lanes, load, moved


def places(builder: Any, first: Any, distance: Any) -> list[Any]:
    """Pointers to the eight lines of a block, which are so many numbers apart."""
    found = [first]
    while len(found) < 8:
        found.append(moved(builder, found[-1], distance))
    return found


def loaded(builder: Any, first: Any, distance: Any) -> list[Lanes]:
    """The lines of a block; see `places`."""
    return [load(builder, place, 8) for place in places(builder, first, distance)]


def levels(samples: Sequence[Lanes]) -> list[Lanes]:
    """The samples after the inverse DCT as levels, 0 to 255."""
    return [(line + 128).at_least(0).at_most(255) for line in samples]


def transposed(lines: Sequence[Lanes]) -> list[Lanes]:
    """Blocks of 1x1, 2x2 and 4x4 on both sides of the diagonal change places."""
    rows = list(lines)
    for side in (1, 2, 4):
        low = [n if not n & side else 8 + n - side for n in range(8)]
        high = [n + side if not n & side else 8 + n for n in range(8)]
        for row in (n for n in range(8) if not n & side):
            one, other = rows[row], rows[row + side]
            rows[row], rows[row + side] = one.picked(low, other), one.picked(high, other)
    return rows


def forward(lines: Sequence[Lanes], shift: int) -> list[Lanes]:
    """The DCT of each column, over 2**shift, rounded: a pass of jfdctint.c."""
    x0, x1, x2, x3 = (one + other for one, other in zip(lines[:4], lines[:3:-1], strict=True))
    y0, y1, y2, y3 = (one - other for one, other in zip(lines[:4], lines[:3:-1], strict=True))
    outer, inner, middle, rest = x0 + x3, x1 + x2, x1 - x2, x0 - x3
    z1 = (middle + rest) * 4433
    evens = ((outer + inner) << 13, z1 + rest * 6270, (outer - inner) << 13, z1 + middle * -15137)
    z5 = (y3 + y1 + y2 + y0) * 9633
    z1, z2 = (y3 + y0) * -7373, (y2 + y1) * -20995
    z3, z4 = (y3 + y1) * -16069 + z5, (y2 + y0) * -3196 + z5
    odds = (y0 * 12299 + z1 + z4, y1 * 25172 + z2 + z3, y2 * 16819 + z2 + z4, y3 * 2446 + z1 + z3)
    half = 1 << (shift - 1)
    return [(line + half) >> shift for pair in zip(evens, odds, strict=True) for line in pair]


def inverse(lines: Sequence[Lanes], shift: int) -> list[Lanes]:
    """The inverse DCT of each column, over 2**shift, rounded: a pass of jidctint.c."""
    x0, x1, x2, x3, x4, x5, x6, x7 = lines
    z1 = (x2 + x6) * 4433
    even2, even3 = z1 + x6 * -15137, z1 + x2 * 6270
    half = 1 << (shift - 1)
    even0, even1 = ((x0 + x4) << 13) + half, ((x0 - x4) << 13) + half
    z3, z4 = x7 + x3, x5 + x1
    z5 = (z3 + z4) * 9633
    z1, z2 = (x7 + x1) * -7373, (x5 + x3) * -20995
    z3, z4 = z3 * -16069 + z5, z4 * -3196 + z5
    evens = (even0 + even3, even1 + even2, even1 - even2, even0 - even3)
    odds = (x1 * 12299 + z1 + z4, x3 * 25172 + z2 + z3, x5 * 16819 + z2 + z4, x7 * 2446 + z1 + z3)
    sums = [even + odd for even, odd in zip(evens, odds, strict=True)]
    rests = [even - odd for even, odd in zip(evens, odds, strict=True)]
    return [line >> shift for line in (*sums, *reversed(rests))]
