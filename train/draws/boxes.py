"""Computes the boxes of the resized crop and the cutout from uniform numbers."""

import math

import numpy as np
from numpy.typing import NDArray

_AREA = (0.08, 1.0)

Box = tuple[int, int, int, int]


def resized_box(tries: NDArray[np.float64], height: int, width: int, ratio: float = 0.75) -> Box:
    """(top, left, height, width) of a random resized crop.

    Args:
        tries: (10, 4) uniform numbers: area, ratio, top and left of each try.
        height: of the image.
        width: of the image.
        ratio: the box's width by its height is at least this, and at most its inverse.

    Source: `get_params` of torchvision.transforms.RandomResizedCrop. As there, the first of ten tries that
    fits into the image counts; if none fits, the box is a centre crop.
    """
    # Uniform in the logarithm, so that wide and high boxes are equally likely.
    low, high = math.log(ratio), math.log(1 / ratio)
    for u_area, u_ratio, u_top, u_left in tries.tolist():
        area = height * width * (_AREA[0] + u_area * (_AREA[1] - _AREA[0]))
        drawn = math.exp(low + u_ratio * (high - low))
        w, h = round(math.sqrt(area * drawn)), round(math.sqrt(area / drawn))
        if 0 < w <= width and 0 < h <= height:
            return pick(u_top, height - h + 1), pick(u_left, width - w + 1), h, w
    return _fallback_box(height, width, ratio)


def cutout_box(centre: NDArray[np.float64], side: int, height: int, width: int) -> Box:
    """(y1, x1, y2, x2) of the hole, y2 and x2 excluded; near a border it is smaller or empty.

    Args:
        centre: (2,) uniform numbers for y and x. The centre is an integer point in 0..height, 0..width,
            both ends included.
        side: of the hole in pixels.
        height: of the augmented image.
        width: of the augmented image.
    """
    (y1, y2), (x1, x2) = (
        (start, min(start + side, size))
        for u, size in zip(centre, (height, width), strict=True)
        for start in (max(pick(u, size + 1) - side // 2, 0),)
    )
    return y1, x1, y2, x2


def pick(u: float, count: int) -> int:
    """Maps a uniform number in [0, 1) to an integer 0..count-1."""
    return min(int(u * count), count - 1)  # the product may round up to count


def square_start(u: float, size: int, side: int) -> int:
    """First pixel of a square at a drawn place, along an axis.

    Below 0 where the image is smaller: it is padded by its whole deficit on each side, as torchvision's
    RandomCrop(pad_if_needed=True) does it.

    Args:
        u: uniform number.
        size: of the image.
        side: of the square.
    """
    return pick(u, abs(size - side) + 1) - max(0, side - size)


def _fallback_box(height: int, width: int, ratio: float) -> Box:
    h, w = height, width
    if width / height < ratio:
        h = round(width / ratio)
    elif width / height > 1 / ratio:
        w = round(height * (1 / ratio))
    return (height - h) // 2, (width - w) // 2, h, w
