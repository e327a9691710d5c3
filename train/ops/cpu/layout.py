"""Moves pixels: from windows into planes, from planes into the final crop, from levels to model input."""

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from recon.kernels.compiled import kernel, part


@kernel("void(u1[:,:,:,::1], i8, i8, u1[:,:,:,::1])")
def to_planes(x_PHWC: Pixels, top: int, left: int, out_PCHW: Pixels) -> None:
    """Copies a part of a pair's windows into planes, channel by channel.

    Args:
        x_PHWC: the windows, RGB.
        top: row of the part's first pixel.
        left: column of the part's first pixel.
        out_PCHW: gets the part.
    """
    images, _, height, width = out_PCHW.shape
    for image in range(images):
        for y in range(height):
            line = x_PHWC[image, top + y, left : left + width]
            r, g, b = out_PCHW[image, 0, y], out_PCHW[image, 1, y], out_PCHW[image, 2, y]
            for x in range(width):
                r[x], g[x], b[x] = line[x, 0], line[x, 1], line[x, 2]


@part
def _gather(x_W: Pixels, places_S: NDArray[np.int64], out_S: Pixels) -> None:
    for i in range(places_S.size):
        out_S[i] = x_W[places_S[i]]


@part
def _mirror(start: int, count: int, size: int) -> NDArray[np.int64]:
    """The same as `train.window.geometry.mirror`, for numba."""
    places = np.empty(count, np.int64)
    for i in range(count):
        place = (start + i) % (2 * size)
        places[i] = min(place, 2 * size - 1 - place)
    return places


@kernel("void(u1[:,:,:,::1], i8[::1], u1[:,:,:,::1])")
def crop_turned(x_PCHW: Pixels, where: NDArray[np.int64], out_PCSS: Pixels) -> None:
    """Copies the final crop from planes, rotated and flipped.

    Args:
        x_PCHW: planes.
        where: height and width of the images; the crop's first row and column, which may be outside the
            image; the first row and column that `x_PCHW` holds; quarter turns counter-clockwise; 1 for
            a horizontal flip after the rotation.
        out_PCSS: gets the crop.
    """
    side = out_PCSS.shape[2]
    height, width, crop_top, crop_left, top, left, rotation, flip = where
    rows_S, columns_S = _mirror(crop_top, side, height) - top, _mirror(crop_left, side, width) - left
    turned = rotation % 2 == 1
    # Rotation and flip together reverse the rows, the columns, both or none, and exchange them if turned.
    if (rotation >= 2) != (flip == 1 and turned):
        rows_S = rows_S[::-1].copy()
    if (rotation == 1 or rotation == 2) != (flip == 1 and not turned):
        columns_S = columns_S[::-1].copy()
    for image in range(out_PCSS.shape[0]):
        for channel in range(3):
            x_HW, out_SS = x_PCHW[image, channel], out_PCSS[image, channel]
            for i in range(side):
                if turned:
                    _gather(x_HW[rows_S[i]], columns_S, out_SS[:, i])
                else:
                    _gather(x_HW[rows_S[i]], columns_S, out_SS[i])


@kernel("void(u1[:,:,:,::1], f4[:,::1], f4[:,:,:,::1])")
def look_up(x_BCHW: Pixels, table: NDArray[np.float32], out_BCHW: NDArray[np.float32]) -> None:
    """Looks each level up in the table of its channel.

    Args:
        x_BCHW: images.
        table: (C, 256).
        out_BCHW: gets the entries.
    """
    for image in range(x_BCHW.shape[0]):
        for channel in range(x_BCHW.shape[1]):
            x_N, out_N = x_BCHW[image, channel].ravel(), out_BCHW[image, channel].ravel()
            entries = table[channel]
            for i in range(x_N.size):
                out_N[i] = entries[x_N[i]]
