"""Resizes images, and draws titles for contact sheets."""

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont

from recon.image.codec import Pixels, _as_image

RESAMPLERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
"""Pillow's filters, without those that came with Pillow 13; all but the first are antialiased where they
shrink."""

_SOMETIMES_COLUMNS_FIRST = int(PIL.__version__.split(".")[0]) >= 13


def resize(pixels: Pixels, height: int, width: int, resampler: str = "bilinear") -> Pixels:
    """Resizes (H, W, 3) uint8 as Pillow does and, by ``bilinear`` and ``bicubic``, torchvision.

    Args:
        pixels: may be a view of a larger image.
        height: of the result.
        width: of the result.
        resampler: one of `RESAMPLERS`.
    """
    image = _part_as_image(pixels).resize((width, height), Image.Resampling[resampler.upper()])
    return np.asarray(image)


def columns_first(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Whether `resize` changes the length of columns before that of rows.

    Before version 13 Pillow never did. Source: `ImagingResampleInner` in its Resample.c.

    Args:
        size: height and width before.
        resized: height and width after.
    """
    shrinks = size[0] - resized[0], size[1] - resized[1]
    return _SOMETIMES_COLUMNS_FIRST and shrinks[0] > max(0, 2 * shrinks[1])


def _part_as_image(pixels: Pixels) -> Image.Image:
    """Makes a Pillow image of (H, W, 3), which may be a view of a larger image, without a copy."""
    # `Image.fromarray` copies a view whose rows aren't adjacent. `frombuffer` takes the distance of the rows
    # (`stride`), but needs a flat buffer: `lines` covers the rows and the bytes between them.
    height, width = pixels.shape[:2]
    if pixels.strides[1:] != (3, 1):  # mirrored or otherwise permuted
        return _as_image(pixels)
    stride = pixels.strides[0]
    lines = np.lib.stride_tricks.as_strided(pixels, ((height - 1) * stride + width * 3,), (1,))
    return Image.frombuffer("RGB", (width, height), lines, "raw", "RGB", stride, 1)


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image of this size when its longer side is `side`."""
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def enlarge(pixels: Pixels, height: int, width: int) -> Pixels:
    """Enlarges (H, W, 3) uint8 by repeating pixels, so that each can be seen."""
    rows, columns = pixels.shape[:2]
    enlarged: Pixels = pixels[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    return enlarged


def text_strip(text: str, width: int, height: int, ink: str = "black") -> Pixels:
    """Draws `text` on a white (height, width, 3) strip, for contact sheets; what is too long ends in dots."""
    image = Image.new("RGB", (width, height), "white")
    font, left = ImageFont.load_default(size=height * 0.6), 4
    shown = text
    while shown and font.getlength(shown) > width - 2 * left:
        text = text[:-1]
        shown = f"{text}..." if text else ""
    ImageDraw.Draw(image).text((left, height * 0.15), shown, fill=ink, font=font)
    return np.asarray(image)
