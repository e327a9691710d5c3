"""Chroma at half resolution, and borders that repeat: what one image was put through, whatever it shows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from recon.image.codec import Pixels
from recon.image.jpeg_grid import LEAST_SIDE

_SIDE = 512  # pixels: chroma is looked at in the central part of larger images
_ROUNDING = 0.13  # levels squared: rounding to RGB alone makes halved chroma differ by less from its halves
_AT_ITS_PLACE = 1.25  # times
_REACH = 4  # pixels: clipped colours have other chroma, which this far away still counts
_LEAST_PIXELS = 1000  # without clipped ones near
_FLAT = 1.0  # levels: mean change from line to line, below which nothing can be told of borders
_REPEATED = 0.01  # of the usual change between two lines
_LINES = 64  # lines next to a border that are compared
_DEEPEST = 4  # lines at each border that may repeat others

Plane = NDArray[np.floating[Any]]


def image_values(pixels: Pixels) -> dict[str, float]:
    """The numbers of an image, (H, W, C) uint8, by name; NaN if they can't be told.

    ``chroma_halved``: 1 if its chroma is that of an image half as large, scaled up as JPEG decoders do
    (4:2:0), at any of the 4 places of the 2x2 grid; NaN if it is so smooth that it might be.
    ``repeated_border``: 1 if a line at a border repeats one of the lines before it.
    """
    if min(pixels.shape[:2]) < LEAST_SIDE:
        return {"chroma_halved": np.nan, "repeated_border": np.nan}
    return {"chroma_halved": _halved(pixels), "repeated_border": _repeated(pixels)}


def _halved(pixels: Pixels) -> float:
    if pixels.shape[2] != 3:
        return np.nan
    top, left = (max(0, side - _SIDE) // 2 for side in pixels.shape[:2])
    pixels = pixels[top : top + _SIDE, left : left + _SIDE]
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    planes = [(blue - luma) / np.float32(1.772), (red - luma) / np.float32(1.402)]
    if max(float(plane.var()) for plane in planes) < _FLAT:  # nearly grey: any chroma is halved
        return np.nan
    places = ((0, 0), (0, 1), (1, 0), (1, 1))
    counted = ~maximum_filter(((pixels == 0) | (pixels == 255)).any(axis=2), 2 * _REACH + 1)
    if counted[8:-8, 8:-8].sum() < _LEAST_PIXELS:
        return np.nan
    losses = [
        sum(_loss(plane[row:, column:], counted[row:, column:]) for plane in planes) / 2
        for row, column in places
    ]
    best, second, *_ = sorted(losses)
    if best >= _ROUNDING:
        return 0.0
    # A smooth image loses little at any of the places, halved chroma at its own alone.
    return 1.0 if second > _AT_ITS_PLACE * best else np.nan


def _loss(plane: Plane, counted: NDArray[np.bool_]) -> float:
    """Mean square of what is lost if a plane is halved, by means of 2x2, and scaled up by triangles."""
    rows, columns = (side // 2 for side in plane.shape)
    plane = plane[: 2 * rows, : 2 * columns]
    half = plane.reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    # Halving after scaling up is a filter (1, 6, 1) / 8. Undone by iteration; each step leaves at most half.
    source = half
    for _ in range(6):
        source = source + half - _filtered(source)
    inner = np.s_[4:-4, 4:-4]
    lost = (plane - _doubled(source))[inner]
    return float((lost[counted[: 2 * rows, : 2 * columns][inner]] ** 2).mean())


def _filtered(plane: Plane) -> Plane:
    for _ in range(2):
        beside = np.pad(plane, ((1, 1), (0, 0)), "edge")
        plane = ((beside[:-2] + 6 * plane + beside[2:]) / 8).T
    return plane


def _doubled(plane: Plane) -> Plane:
    for _ in range(2):
        beside = np.pad(plane, ((1, 1), (0, 0)), "edge")
        both = np.stack([(3 * plane + beside[:-2]) / 4, (3 * plane + beside[2:]) / 4], axis=1)
        plane = both.reshape(-1, plane.shape[1]).T
    return plane


def _repeated(pixels: Pixels) -> float:
    turned = pixels.swapaxes(0, 1)
    found = [
        _repeats(lines[-_LINES:].astype(np.int16)) for lines in (pixels, pixels[::-1], turned, turned[::-1])
    ]
    known = [one for one in found if one is not None]
    return float(any(known)) if known else np.nan


def _repeats(lines: NDArray[np.int16]) -> bool | None:
    """Whether the last of some lines equals one of those before it; None if lines hardly differ anyway."""
    changes = [np.abs(lines[lag:] - lines[:-lag]).mean(axis=(1, 2)) for lag in range(1, _DEEPEST + 1)]
    usual = float(np.median(changes[0]))
    # Near the border too: a black frame repeats itself, without a mistake.
    nearby = float(changes[0][-8 - _DEEPEST : -_DEEPEST].min())
    if min(usual, nearby) < _FLAT:
        return None
    return min(float(change[-1]) for change in changes) < _REPEATED * usual
