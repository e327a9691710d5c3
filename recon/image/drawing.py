"""Pictures for people: images scaled down, and titles."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.image.codec import Pixels, _as_image


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Antialiased bilinear resampling of (H, W, 3) uint8, as Pillow and torchvision do it."""
    image = _part_as_image(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _part_as_image(pixels: Pixels) -> Image.Image:
    """(H, W, 3) that may be a part of a larger image, without the copy that `fromarray` makes of such."""
    height, width = pixels.shape[:2]
    if pixels.strides[1:] != (3, 1):
        return _as_image(pixels)
    stride = pixels.strides[0]
    lines = np.lib.stride_tricks.as_strided(pixels, ((height - 1) * stride + width * 3,), (1,))
    return Image.frombuffer("RGB", (width, height), lines, "raw", "RGB", stride, 1)


def text_strip(text: str, width: int, height: int = 24) -> Pixels:
    """A white (height, width, 3) strip with `text` in black, for contact sheets."""
    image = Image.new("RGB", (width, height), "white")
    font = ImageFont.load_default(size=height * 0.55)
    ImageDraw.Draw(image).text((4, height * 0.18), text, fill="black", font=font)
    return np.asarray(image)
