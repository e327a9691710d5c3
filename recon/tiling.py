"""Images too large for the autoencoder in one piece: in overlapping tiles, blended.

The seam rule: all tiles of an image have one size, at most `tiling_pixels`, and lie evenly;
neighbours overlap by `OVERLAP` pixels or a little more. Across the `RAMP` pixels in the middle of an
overlap the share of one tile falls linearly from 1 to 0 as its neighbour's rises; what lies nearer to a
tile's edge is dropped, since the network saw zeros beyond it. How tiles lie is a function of the
image's padded size and `tiling_pixels` alone.

Measured on 1792x768 pixels of a photograph in two tiles, against the same in one piece; steps across
the middle of the seam beyond those of the one piece (mean absolute, in levels of 255; the photograph's
own gradient there is 1.7), and values that differ by more than one level:

| overlap, ramp | taesd: step, differ | tiny: step, differ |
| --- | --- | --- |
| 128, 0 (hard cut) | 1.16, 3.9 % | .71, 1.0 % |
| 128, 64 | .47, 3.7 % | .03, 1.0 % |
| 256, 0 (hard cut) | .33, .03 % | .70, .9 % |
| 256, 64 | .13, .08 % | .03, .9 % |
| 256, 256 | .13, 1.2 % | .03, .7 % |

In taesd a tile is exact from 256 pixels within its edge on; tiny and other autoencoders with group
norms see a whole tile's mean, so that tiles differ in all of their pixels and only a ramp hides it.

Shapes: C channels, H height, W width.
"""

from collections.abc import Callable
from itertools import pairwise, product
from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recon.batches import Bucket

OVERLAP = 256
"""Pixels that neighbouring tiles share, at least."""

RAMP = 64
"""Pixels in the middle of an overlap across which one tile passes into the next."""

Floats = NDArray[np.float32]


class Axis(NamedTuple):
    """How tiles of one length lie along one axis."""

    length: int
    """Of each tile."""
    starts: tuple[int, ...]
    """Where they begin: the first at 0, the last so that it ends with the image."""

    def shares(self) -> list[Floats]:
        """Each tile's share in each of its pixels along the axis; where tiles overlap they sum to 1."""
        shares = [np.ones(self.length, np.float32) for _ in self.starts]
        for (left, right), (start, following) in zip(pairwise(shares), pairwise(self.starts), strict=True):
            overlap = start + self.length - following
            middle = (np.arange(overlap, dtype=np.float32) + np.float32(0.5 - overlap / 2)) / np.float32(RAMP)
            right[:overlap] = (middle + np.float32(0.5)).clip(0, 1)
            left[-overlap:] = 1 - right[:overlap]
        return shares


def reconstruct_tiled(
    run: Callable[[Floats, int], Floats], x_CHW: Floats, tiling_pixels: int, multiple: int
) -> Floats:
    """Reconstructs one padded image tile by tile.

    Args:
        run: takes a tile (C, h, w) and its number, and returns its reconstruction of that shape.
        x_CHW: the image, height and width multiples of `multiple`.
        tiling_pixels: of a tile, at most.
        multiple: the autoencoder's.
    """
    _, height, width = x_CHW.shape
    rows, columns = tile_axes(Bucket(height, width), tiling_pixels, multiple)
    y_CHW = np.zeros_like(x_CHW)
    places = product(
        zip(rows.starts, rows.shares(), strict=True), zip(columns.starts, columns.shares(), strict=True)
    )
    for number, ((top, share_H), (left, share_W)) in enumerate(places):
        place = (slice(None), slice(top, top + rows.length), slice(left, left + columns.length))
        y_CHW[place] += run(np.ascontiguousarray(x_CHW[place]), number) * share_H[:, None] * share_W
    return y_CHW


def tile_axes(size: Bucket, tiling_pixels: int, multiple: int) -> tuple[Axis, Axis]:
    """How an image's tiles lie along its height and its width: as few and as square as they may be."""
    side = max(isqrt(tiling_pixels), tiling_pixels // min(size.height, size.width))
    return tile_axis(size.height, side, multiple), tile_axis(size.width, side, multiple)


def tile_axis(size: int, side: int, multiple: int) -> Axis:
    """The fewest tiles of at most `side` pixels, of equal lengths, in multiples of `multiple`."""
    side -= side % multiple
    if size <= side:
        return Axis(size, (0,))
    count = -(-(size - OVERLAP) // (side - OVERLAP))
    length = -(-(size + (count - 1) * OVERLAP) // (count * multiple)) * multiple
    last = (size - length) // multiple
    return Axis(length, tuple(index * last // (count - 1) * multiple for index in range(count)))
