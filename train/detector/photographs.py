"""The pixels of a photograph that is given by its path, its bytes or as pixels."""

from pathlib import Path
from typing import Any

import numpy as np

from pack.base.items import store_of
from recon.base.errors import MissingError, RejectedImageError, UserError
from recon.base.paths import split_path
from recon.image.codec import Pixels, as_rgb, decode

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused, unless another limit is given."""
Image = str | Path | bytes | Any
"""A path or URL, the bytes of a file, or (H, W, 3) or (H, W) uint8 pixels, such as an RGB image of Pillow."""


def read_pixels(image: Image, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Reads an image to (H, W, 3) uint8 RGB; see `Image`.

    Raises:
        UserError: it is missing, damaged, too large, or of another type; the message names it.
    """
    data = _bytes(image) if isinstance(image, str | Path) else image
    if isinstance(data, bytes):
        try:
            return as_rgb(decode(data, max_pixels=max_pixels, convert=True).pixels)
        except RejectedImageError as error:
            raise UserError(f"{name}: {error}") from error
    pixels = np.asarray(data)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not is_image or not pixels.size:
        raise UserError(
            f"{name}: expected a path, bytes, or uint8 pixels (H, W, 3) or (H, W), found "
            f"{type(image).__name__} {pixels.dtype} {pixels.shape}"
        )
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise UserError(f"{name}: {pixels.shape[1]}x{pixels.shape[0]} exceeds max_pixels={max_pixels}")
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _bytes(path: str | Path) -> bytes:
    folder, name = split_path(str(path))
    try:
        return store_of(folder).read(name)
    except MissingError as error:
        raise UserError(f"{path} not found; expected an image, a folder or a URL") from error
