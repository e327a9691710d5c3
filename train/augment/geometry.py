"""Where a pair's window lies, decided before a pixel is touched; and turning it afterwards.

The published recipe rotates and flips the whole image and crops at the end. Here the crop
comes first: its box is carried back through flip and rotation, cut out of the stored image
with equal coordinates for real and fake, and turned on the device. Both orders give the
same pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.codec import Pixels, resize
from train.augment.draws import Box, GeometryDraws, pick, resized_box

RESIZED_SIDE = 256
"""Side of the square that a resized crop is resampled to."""


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """What is cut out of both images of a pair, and how it is turned."""

    resized: Box | None
    """(top, left, height, width) of the part that is first resampled to 256x256."""
    top: int
    """Row of the window's first pixel; below 0 where it overhangs the image."""
    left: int
    """Column of the window's first pixel; below 0 where it overhangs the image."""
    side: int
    """Height and width of the window."""
    rotation: int
    """Quarter turns counter-clockwise, 0..3, after cutting."""
    flip: bool
    """Mirror left and right, after rotating."""


def plan_window(draws: GeometryDraws, row: int, height: int, width: int, crop: int) -> WindowPlan:
    """Plans the window of one pair.

    Args:
        draws: of a batch.
        row: the pair's place in `draws`.
        height: of both images in their stored frame.
        width: likewise.
        crop: side of the crop. A smaller image is padded by its whole deficit on each side, as
            torchvision's RandomCrop(pad_if_needed=True) does.
    """
    resized = None
    if draws.resized[row]:
        resized = resized_box(draws.resized_tries[row], height, width)
        height = width = RESIZED_SIDE
    rotation, flip = int(draws.rotation[row]), bool(draws.flip[row])
    turned_h, turned_w = (width, height) if rotation % 2 else (height, width)
    top, left = (
        pick(u, abs(side - crop) + 1) - max(0, crop - side)
        for u, side in zip(draws.crop[row], (turned_h, turned_w), strict=True)
    )
    if flip:
        left = turned_w - left - crop
    bottom, right = turned_h - top - crop, turned_w - left - crop
    top, left = ((top, left), (left, bottom), (bottom, right), (right, top))[rotation]
    return WindowPlan(resized=resized, top=top, left=left, side=crop, rotation=rotation, flip=flip)


def cut_window(pixels: Pixels, plan: WindowPlan) -> Pixels:
    """Cuts the (side, side, 3) window out of an image (H, W, 3); overhang mirrors the border pixels."""
    if plan.resized is not None:
        top, left, height, width = plan.resized
        pixels = resize(pixels[top : top + height, left : left + width], RESIZED_SIDE, RESIZED_SIDE)
    return cut(pixels, plan.top, plan.left, plan.side)


def centre_crop(pixels: Pixels, side: int) -> Pixels:
    """The (side, side, 3) centre of an image (H, W, 3); a smaller image is padded symmetrically."""
    height, width = pixels.shape[:2]
    return cut(pixels, (height - side) // 2, (width - side) // 2, side)


def cut(pixels: Pixels, top: int, left: int, side: int) -> Pixels:
    """A square of an image, mirrored (the border pixel repeats) beyond its edges."""
    height, width = pixels.shape[:2]
    if 0 <= top <= height - side and 0 <= left <= width - side:
        return pixels[top : top + side, left : left + side]
    return pixels[mirror(top, side, height)[:, None], mirror(left, side, width)]


def mirror(start: int, count: int, size: int) -> NDArray[np.int64]:
    """Indices start..start+count-1 folded into 0..size-1 as `numpy.pad(mode="symmetric")` folds them."""
    place = np.arange(start, start + count) % (2 * size)
    return np.minimum(place, 2 * size - 1 - place)
