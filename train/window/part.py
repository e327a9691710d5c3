"""The part of a window on which its final crop depends, after the draws: on average half of its pixels.

The rest of the window is neither decoded nor augmented.
"""

from dataclasses import dataclass

from train.draws.config import JPEG_GRID, JPEG_REACH, AugmentConfig, blur_radius
from train.draws.parameters import PhotometricDraws


@dataclass(frozen=True, kw_only=True)
class Part:
    """A rectangle of a window, in pixels from the window's first one."""

    rows: slice
    columns: slice
    halo: int
    """Width in pixels of its border that only the blur needs."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def whole_part(side: int) -> Part:
    """All of a window with so many pixels a side."""
    return Part(rows=slice(0, side), columns=slice(0, side), halo=0)


def needed_part(frame: tuple[int, ...], draws: PhotometricDraws, row: int, config: AugmentConfig) -> Part:
    """The part that a pair needs.

    Args:
        frame: of `train.window.geometry.WindowPlan.frame`.
        draws: of several pairs.
        row: which of the draws are this pair's.
        config: the recipe.
    """
    height, width, crop_top, crop_left, top, left = frame[:6]
    halo = blur_radius(float(draws.blur_sigma[row])) if draws.blur[row] else 0
    # WebP and sharpening give other pixels at the edges of a region, so they need the whole core.
    whole = bool(draws.webp[row] or draws.sharpen[row])
    is_jpeg = bool(draws.jpeg[row])
    rows, columns = (
        _whole_core(start, size, config) if whole else _along(crop, size, config.crop, is_jpeg)
        for start, crop, size in ((top, crop_top, height), (left, crop_left, width))
    )
    return Part(rows=_slice(rows, top, halo), columns=_slice(columns, left, halo), halo=halo)


def _whole_core(start: int, size: int, config: AugmentConfig) -> tuple[int, int]:
    core = start + config.blur_radius
    return core, min(core + config.core_side, size)


def _along(first: int, size: int, side: int, is_jpeg: bool) -> tuple[int, int]:
    """The first place along an axis of the image, and the end, of what a crop depends on before the blur."""
    # A crop that reaches beyond the image mirrors it, so it may need all of the image.
    low, high = (first, first + side) if 0 <= first <= size - side else (0, size)
    if is_jpeg:  # it needs whole blocks of its grid
        low = max(0, low - JPEG_REACH) // JPEG_GRID * JPEG_GRID
        high = -(-(high + JPEG_REACH) // JPEG_GRID) * JPEG_GRID
    return low, min(high, size)


def _slice(span: tuple[int, int], start: int, halo: int) -> slice:
    return slice(span[0] - halo - start, span[1] + halo - start)
