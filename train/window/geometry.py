"""Where a pair's window lies, decided before a pixel is touched; and cutting it.

The published recipe changes, rotates and flips the whole image and crops at the end. Here the crop
comes first. Its box is carried back through flip and rotation into the *augmented image* (the stored one,
or the square of its resized crop). Then it grows to a window that holds every pixel on which the crop
depends: first to JPEG's grid, then by the blur's reach. The device does the rest. Both ways give the same
pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from train.draws.boxes import Box, cutout_box, resized_box, square_start
from train.draws.config import JPEG_GRID, JPEG_REACH, AugmentConfig
from train.draws.parameters import GeometryDraws
from train.window.images import Image, Source
from train.window.resized import Resized

FRAME = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("height", "width", "crop_top", "crop_left", "top", "left"),
            *("cut_top", "cut_left", "cut_bottom", "cut_right", "rotation", "flip"),
        )
    ]
)
"""What the device needs to know of a `WindowPlan`; without a hole, its four sides are 0."""


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """What is cut out of both images of a pair, in the augmented image's frame, and what follows."""

    resized: Box | None = None
    """(top, left, height, width) of the part of the stored image that is first resampled to a square."""
    resampler: str = "bilinear"
    """Pillow's filter for that."""
    height: int
    """Of the augmented image."""
    width: int
    """Of the augmented image."""
    crop_top: int
    """Row of the final crop's first pixel; below 0 where a smaller image is padded."""
    crop_left: int
    """Column of the final crop's first pixel; below 0 where a smaller image is padded."""
    top: int
    """Row of the window's first pixel; below 0 where it overhangs the image."""
    left: int
    """Column of the window's first pixel; below 0 where it overhangs the image."""
    side: int
    """Height and width of the window."""
    cutout: Box | None = None
    """(y1, x1, y2, x2) of the hole, its ends excluded."""
    rotation: int = 0
    """Quarter turns counter-clockwise, 0..3, before the final crop of the published order."""
    flip: bool = False
    """Mirror left and right, after rotating."""

    @property
    def box(self) -> Box:
        """(top, left, height, width) of the window."""
        return self.top, self.left, self.side, self.side

    def frame(self) -> tuple[int, ...]:
        """The fields of `FRAME`."""
        where = (self.height, self.width, self.crop_top, self.crop_left, self.top, self.left)
        return (*where, *(self.cutout or (0, 0, 0, 0)), self.rotation, int(self.flip))


def plan_window(draws: GeometryDraws, row: int, height: int, width: int, config: AugmentConfig) -> WindowPlan:
    """Plans the window of one pair.

    Args:
        draws: of several pairs.
        row: which of the draws are this pair's.
        height: of both images as they are stored.
        width: of both images as they are stored.
        config: the recipe. An image smaller than its crop is padded by its whole deficit on each
            side, as torchvision's RandomCrop(pad_if_needed=True) does.
    """
    resized = None
    if draws.resized[row]:
        resized = resized_box(draws.resized_tries[row], height, width, config.resized_crop_ratio)
        height = width = int(draws.resized_side[row])
    rotation, flip = int(draws.rotation[row]), bool(draws.flip[row])
    crop_top, crop_left = _crop_origin(draws.crop[row], rotation, flip, height, width, config)
    cutout = None
    if draws.cutout[row]:
        cutout = cutout_box(draws.cutout_centre[row], config.cutout_side, height, width)
    return WindowPlan(
        resized=resized,
        resampler=config.resized_crop_resampler,
        height=height,
        width=width,
        crop_top=crop_top,
        crop_left=crop_left,
        top=_window_start(crop_top, height, config),
        left=_window_start(crop_left, width, config),
        side=config.window_side,
        cutout=cutout,
        rotation=rotation,
        flip=flip,
    )


def whole_window(side: int) -> WindowPlan:
    """The plan of a clean crop that is cut already: the window is the image, with nothing left to do."""
    return WindowPlan(height=side, width=side, crop_top=0, crop_left=0, top=0, left=0, side=side)


def _crop_origin(
    u_crop: NDArray[np.float64], rotation: int, flip: bool, height: int, width: int, config: AugmentConfig
) -> tuple[int, int]:
    """(top, left) of the final crop, carried back through flip and rotation."""
    # The published order crops last, so the crop is drawn in the frame of the turned image.
    crop = config.crop
    turned_h, turned_w = (width, height) if rotation % 2 else (height, width)
    top, left = (
        square_start(u, side, crop) if config.random_crop else (side - crop) // 2
        for u, side in zip(u_crop.tolist(), (turned_h, turned_w), strict=True)
    )
    if flip:
        left = turned_w - left - crop
    bottom, right = turned_h - top - crop, turned_w - left - crop
    return ((top, left), (left, bottom), (bottom, right), (right, top))[rotation]


def _window_start(crop_start: int, size: int, config: AugmentConfig) -> int:
    """Where the window begins along an axis of `size` pixels."""
    if not config.is_photometric:
        return crop_start
    # The order of the steps matters: the grid is that of the image, so the blur's margin comes after it.
    # Widening to the grid at the end gave other pixels in 72 of 120 crops.
    first = crop_start if size >= config.crop else 0  # of the image's pixels that the crop shows
    if config.jpeg_p or config.webp_p:
        first = max(0, first - JPEG_REACH) // JPEG_GRID * JPEG_GRID
    return first - config.blur_radius


def augmented_image(image: Source, plan: WindowPlan) -> Image:
    """The image that the photometric ops act on: the stored one, or its resized crop."""
    if plan.resized is None:
        return image
    return Resized(image, plan.resized, (plan.height, plan.width), plan.resampler)


def final_crop(image: Image, plan: WindowPlan, crop: int) -> Pixels:
    """The (crop, crop, 3) final crop of an augmented image, turned and mirrored as the recipe ends.

    The images of a pair get it on the device, after the ops in between; a mask has no such ops.
    """
    square = cut_out(image, (plan.crop_top, plan.crop_left, crop, crop))
    turned = np.rot90(square, plan.rotation)
    return np.ascontiguousarray(turned[:, ::-1] if plan.flip else turned)


def centre_crop(pixels: Pixels, side: int) -> Pixels:
    """The (side, side, 3) centre of an image (H, W, 3); a smaller image is padded symmetrically."""
    return cut(pixels, centre(pixels.shape, side))


def centre(size: tuple[int, ...], side: int) -> Box:
    """The centre crop of an image of (height, width, ...); it begins below 0 where the image is smaller."""
    height, width = size[:2]
    return (height - side) // 2, (width - side) // 2, side, side


def cut_out(image: Image, box: Box) -> Pixels:
    """`cut` of an image, of which only the part is decoded on which the box depends."""
    part = needed(image.size, box)
    # Where the box overhangs, the part ends at the image's border: both are mirrored at the same place.
    return cut(image.part(part), (box[0] - part[0], box[1] - part[1], *box[2:]))


def needed(size: tuple[int, int], box: Box) -> Box:
    """(top, left, height, width) of the part of an image on which `cut` depends."""
    rows, columns = (_span(*one) for one in zip(box[:2], box[2:], size, strict=True))
    return rows[0], columns[0], rows[1], columns[1]


def _span(start: int, count: int, size: int) -> tuple[int, int]:
    """The first place along an axis, and how many."""
    if 0 <= start <= size - count:
        return start, count
    if start < -size or start + count > 2 * size:  # mirrored more than once
        return 0, size
    places = mirror(start, count, size)
    # With the border, at which it is mirrored.
    first = 0 if start < 0 else int(places.min())
    last = size - 1 if start + count > size else int(places.max())
    return first, last - first + 1


def cut(pixels: Pixels, box: Box) -> Pixels:
    """A part of an image, mirrored (the border pixel repeats) beyond its edges.

    A view of the image where nothing overhangs. The time does not depend on the image's size.

    Args:
        pixels: (H, W, 3).
        box: (top, left, height, width); it may begin below 0 and end beyond the image.
    """
    top, left, high, wide = box
    height, width = pixels.shape[:2]
    y1, y2 = max(0, -top), min(high, height - top)  # of the box, what lies on the image
    x1, x2 = max(0, -left), min(wide, width - left)
    if (y1, x1, y2, x2) == (0, 0, high, wide):
        return pixels[top : top + high, left : left + wide]
    if max(y1, high - y2) > y2 - y1 or max(x1, wide - x2) > x2 - x1:  # mirrored more than once
        return pixels[mirror(top, high, height)[:, None], mirror(left, wide, width)]
    # By strips: a twentieth of the time of picking every pixel by its indices.
    part = np.empty((high, wide, 3), np.uint8)
    part[y1:y2, x1:x2] = pixels[top + y1 : top + y2, left + x1 : left + x2]
    _mirror_ends(part[y1:y2].swapaxes(0, 1), x1, x2)
    _mirror_ends(part, y1, y2)
    return part


def mirror(start: int, count: int, size: int) -> NDArray[np.int64]:
    """Indices start..start+count-1 folded into 0..size-1 as `numpy.pad(mode="symmetric")` folds them."""
    index = np.arange(start, start + count) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def _mirror_ends(lines: Pixels, first: int, last: int) -> None:
    """Fills the lines before `first`, and from `last` on, with their mirror images."""
    lines[:first] = lines[first : 2 * first][::-1]
    past = len(lines) - last
    lines[last:] = lines[last - past : last][::-1]
