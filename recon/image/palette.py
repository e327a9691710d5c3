"""The palette of an image: 64 colours of which each stands for as many pixels.

A pixelwise change of colours, applied to the palette, tells the mean grey of the changed image; so this mean
needs no pixels. Colours are halved again and again at their median (median cut, after Heckbert, Color image
quantization for frame buffer display, 1982), by green, blue and red in turn, down to groups of near colours.
"""

import numpy as np

from recon.image.codec import Pixels

_GRID = 96  # rows and columns. Of 280 photographs' mean greys 99 % were right to 1 level; with 80, to 2.2
_HALVINGS = 6

COLOURS = 2**_HALVINGS


def palette(pixels: Pixels) -> Pixels:
    """The palette of an image.

    Of 96 rows and 96 columns, spread evenly, the pixels where they cross are taken; smaller images have some
    rows and columns repeated. All arithmetic is in integers, and equal pixels are exchangeable.

    Args:
        pixels: (H, W, 3) uint8.

    Returns:
        (64, 3) uint8, the mean of each group of 144 colours, rounded.
    """
    rows, columns = ((2 * np.arange(_GRID) + 1) * side // (2 * _GRID) for side in pixels.shape[:2])
    red, green, blue = pixels[rows[:, None], columns].reshape(-1, 3).astype(np.int32).T
    # One number for each colour, its first channel in the highest bits: a sort of numbers is fast.
    keys = (green << 16 | blue << 8 | red)[None]
    for _ in range(_HALVINGS):
        keys = np.sort(keys, axis=-1).reshape(2 * len(keys), -1)
        keys = keys << 8 & 0xFFFFFF | keys >> 16  # the next channel first
    count = keys.shape[1]
    channels = (keys >> shift & 255 for shift in (0, 16, 8))  # after six turns green is first again
    means = [(2 * channel.sum(axis=1) + count) // (2 * count) for channel in channels]
    return np.stack(means, axis=1).astype(np.uint8)
