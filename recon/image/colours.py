"""The colours of an image and where they lie: enough to know the mean grey of a part without its pixels.

A *palette* of 64 colours, of which each stands for as many pixels; and a *map*, which names for each of
16x16 cells two colours of the palette. A pixelwise change of colours, applied to the palette, tells the mean
grey of the changed image, or with the map that of a part of it. Palettes are made by halving groups of
colours again and again at their median (median cut, after Heckbert, Color image quantization for frame
buffer display, 1982), by green, blue and red in turn. All arithmetic is in integers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels

_GRID = 96  # rows and columns. Of 280 photographs' mean greys 99 % were right to 1 level; with 80, to 2.2
_HALVINGS = 6
_CELLS = 16  # down and across. Of 1,120 parts' mean greys 99 % were right to 3 levels; with 8, of 720, to 7

COLOURS = 2**_HALVINGS
COLOURS_BYTES = 3 * COLOURS + 2 * _CELLS**2
"""How many bytes `Colours.packed` gives."""

Weights = NDArray[np.float64]
"""(64,) integers: for how much of an image each colour of its palette stands."""

EQUAL: Weights = np.ones(COLOURS)
"""For the whole of an image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Colours:
    """See above."""

    palette: Pixels
    """(64, 3)."""
    cells: NDArray[np.uint8]
    """(16, 16, 2): two colours of each cell, as numbers of the palette."""

    def packed(self) -> bytes:
        """As bytes, for an index."""
        return self.palette.tobytes() + self.cells.tobytes()

    def weights(self, size: tuple[int, int], box: tuple[int, int, int, int]) -> Weights:
        """The weights for a part of the image.

        Args:
            size: height and width of the image in pixels.
            box: top, left, height and width of the part.
        """
        down, across = (_overlaps(*one) for one in zip(box[:2], box[2:], size, strict=True))
        areas = np.repeat((down[:, None] * across).reshape(-1), 2)
        return np.bincount(self.cells.reshape(-1), areas, COLOURS).astype(np.float64)


def read_colours(data: bytes) -> Colours | None:
    """Reads what `Colours.packed` gave; None if it is something else."""
    if len(data) != COLOURS_BYTES:
        return None
    numbers = np.frombuffer(data, np.uint8)
    colours, cells = numbers[: 3 * COLOURS].reshape(-1, 3), numbers[3 * COLOURS :]
    if cells.max() >= COLOURS:
        return None
    return Colours(palette=colours, cells=cells.reshape(_CELLS, _CELLS, 2))


def colours_of(pixels: Pixels) -> Colours:
    """Finds the palette and the map of an image (H, W, 3) uint8; see `palette`."""
    points = _points(pixels)
    found, side = _palette(points), _GRID // _CELLS
    parts = points.reshape(_CELLS, side, _CELLS, side, 3).swapaxes(1, 2).reshape(_CELLS**2, side**2, 3)
    means_n3, found_3n = _means(_halved(_keys(parts))).astype(np.int32), found.T.astype(np.int32)
    # The nearest colour, by the square of the distance less what is the same for all.
    nearness = 2 * means_n3 @ found_3n - (found_3n**2).sum(axis=0)
    cells = nearness.argmax(axis=1).astype(np.uint8).reshape(_CELLS, _CELLS, 2)
    return Colours(palette=found, cells=cells)


def palette(pixels: Pixels) -> Pixels:
    """The palette of an image.

    Of 96 rows and 96 columns, spread evenly, the pixels where they cross are taken; smaller images have some
    rows and columns repeated. Equal pixels are exchangeable.

    Args:
        pixels: (H, W, 3) uint8.

    Returns:
        (64, 3) uint8, the mean of each group of 144 colours, rounded.
    """
    return _palette(_points(pixels))


def _points(pixels: Pixels) -> NDArray[np.int32]:
    """(96, 96, 3)."""
    rows, columns = ((2 * np.arange(_GRID) + 1) * side // (2 * _GRID) for side in pixels.shape[:2])
    points: NDArray[np.int32] = pixels[rows[:, None], columns].astype(np.int32)
    return points


def _keys(colours: NDArray[np.int32]) -> NDArray[np.int32]:
    """One number for each colour of (..., 3), its green in the highest bits: a sort of numbers is fast."""
    return colours[..., 1] << 16 | colours[..., 2] << 8 | colours[..., 0]


def _halved(keys: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n, k) groups as (2n, k / 2)."""
    return np.sort(keys, axis=-1).reshape(2 * len(keys), -1)


def _palette(points: NDArray[np.int32]) -> Pixels:
    keys = _keys(points).reshape(1, -1)
    for _ in range(_HALVINGS):
        keys = _halved(keys)
        keys = keys << 8 & 0xFFFFFF | keys >> 16  # the next channel first; after six turns green is again
    return _means(keys)


def _means(keys: NDArray[np.int32]) -> Pixels:
    """(n, 3) the rounded mean of each group of (n, k)."""
    count = keys.shape[1]
    channels = (keys >> shift & 255 for shift in (0, 16, 8))
    means = [(2 * channel.sum(axis=1) + count) // (2 * count) for channel in channels]
    return np.stack(means, axis=1).astype(np.uint8)


def _overlaps(start: int, count: int, size: int) -> NDArray[np.int64]:
    """(16,) how much of each cell lies in a span, in sixteenths of a pixel."""
    ends = np.arange(_CELLS + 1) * size
    inside = ends.clip(_CELLS * start, _CELLS * (start + count))
    return np.diff(inside)
