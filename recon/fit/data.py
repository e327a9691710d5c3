"""Photographs for `recon.fit`: random crops to train on, and centres to measure the model on.

Shapes: B batch, H height, W width, C = 3 channels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import RejectedImageError, UserError
from recon.base.paths import expanded
from recon.folder import find_images
from recon.image.codec import Pixels, as_rgb, decode
from recon.image.drawing import resize

CENTRE_SIDE = 256
"""Side in pixels of the centres on which a model is measured."""

_MAX_PIXELS = 100_000_000  # as the default of `python -m recon` and `python -m pack`


def load_photographs(folder: str) -> list[Pixels]:
    """Decodes every image below a folder to (H, W, 3) uint8, in the order of the names.

    Raises:
        UserError: the folder holds no image, or an image can't be decoded.
    """
    root = expanded(folder)
    names = find_images(root)
    if not names:
        raise UserError(f"no images in {root}, expected a folder of photographs")
    return [_load(root / name) for name in names]


def shrink(photographs: list[Pixels], crop: int, scales: Sequence[int]) -> list[Pixels]:
    """Shrinks each photograph by every factor that leaves room for a crop, or by none if no factor does.

    Raises:
        UserError: a photograph is smaller than a crop.
    """
    for photo in photographs:
        if min(photo.shape[:2]) < crop:
            size = f"{photo.shape[1]}x{photo.shape[0]}"
            raise UserError(f"crop={crop} exceeds a photograph of {size}; remove it or lower --crop")
    return [small for photo in photographs for small in _shrunk(photo, crop, scales)]


def random_crops(
    photographs: list[Pixels], count: int, side: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cuts `count` squares, half of them mirrored: (B, side, side, 3)."""
    return np.stack([_crop(photographs[rng.integers(len(photographs))], side, rng) for _ in range(count)])


def centre(photo: Pixels) -> Pixels:
    """Cuts the square centre, resized to a side of `CENTRE_SIDE` pixels; only this part is measured."""
    height, width = photo.shape[:2]
    scale = CENTRE_SIDE / min(height, width)
    photo = resize(photo, max(CENTRE_SIDE, round(height * scale)), max(CENTRE_SIDE, round(width * scale)))
    top, left = (photo.shape[0] - CENTRE_SIDE) // 2, (photo.shape[1] - CENTRE_SIDE) // 2
    return photo[top : top + CENTRE_SIDE, left : left + CENTRE_SIDE]


def _load(path: Path) -> Pixels:
    try:
        return as_rgb(decode(path.read_bytes(), max_pixels=_MAX_PIXELS, convert=True).pixels)
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}; remove or repair it") from error
    except RejectedImageError as error:
        raise UserError(f"{path}: {error}; remove it") from error


def _shrunk(photo: Pixels, crop: int, scales: Sequence[int]) -> Iterator[Pixels]:
    height, width = photo.shape[:2]
    for scale in [scale for scale in scales if min(height, width) >= scale * crop] or [1]:
        yield resize(photo, height // scale, width // scale)


def _crop(photo: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    height, width = photo.shape[:2]
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    part = photo[top : top + side, left : left + side]
    return part[:, ::-1] if rng.integers(2) else part
