"""Measures one image: a few numbers that depend little on what the image shows.

All numbers are taken from the pixels in the stored frame. Grey images count as three equal channels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.traces.image import image_values
from pack.inspect.audit.traces.jpeg import jpeg_values
from pack.inspect.audit.traces.luma import luma_of
from recon.image.codec import Pixels

WINDOW = 1024
"""Side in pixels of the central part that is used for gradients and transforms."""

_FULL = 16  # pixels: with a mean of this many on its two neighbours, a level is not empty by chance
_EMPTY = 0.25  # a level is a gap if it holds less than this share of its neighbours' mean
_NEAR, _REACHED = 2, 16  # an image reaches an end if so many pixels are at most so many levels off it
_LEAST_LEVELS = 16  # levels with full neighbours; with fewer the share of gaps says nothing

Numbers = NDArray[np.float64]
Plane = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Features:
    """The numbers of one image."""

    values: dict[str, float]
    """Numbers by the names of `FEATURES`; NaN if the image is too small or too flat to tell."""
    levels: Numbers
    """(3, 256) share of pixels at each level of each channel."""
    empty: NDArray[np.int8]
    """(254,) for levels 1..254 of all channels together: 1 if the level is empty between full
    neighbours, 0 if it is not empty, -1 if its neighbours are not full."""
    phases: Numbers
    """(8,) mean absolute gradient at each phase of the 8-grid, relative to their mean; phase 7 crosses it."""


FEATURES = (
    "red",
    "green",
    "blue",
    "low_end",
    "high_end",
    "gaps",
    "jpeg_before",
    "jpeg_traces",
    "jpeg_steps",
    "chroma_halved",
    "repeated_border",
    "blocking",
    "blocking_off",
    "high_frequency",
    "contrast",
    "dark",
    "bright",
)


def measure(pixels: Pixels) -> Features:
    """Measures an image, (H, W, C) uint8."""
    height, width = pixels.shape[:2]
    counts = _counts(pixels)
    levels = counts / (height * width)
    means = levels @ np.arange(256)
    central = window(pixels)
    luma = luma_of(central)
    phases = _phases(luma)
    values = {
        "red": means[0],
        "green": means[1],
        "blue": means[2],
        "low_end": _empty_end(counts),
        "high_end": _empty_end(counts[:, ::-1]),
        "gaps": _gaps(counts),
        **jpeg_values(central),
        **image_values(pixels),
        "blocking": phases[7] - np.median(phases[:7]),
        "blocking_off": phases[:7].max() - np.median(phases[:7]),
        "high_frequency": _high_frequency(luma),
        "contrast": np.sqrt(levels.mean(axis=0) @ (np.arange(256) - means.mean()) ** 2),
        "dark": levels[:, 0].mean(),
        "bright": levels[:, 255].mean(),
    }
    return Features(
        values={name: float(values[name]) for name in FEATURES},
        levels=levels,
        empty=_empty(counts.mean(axis=0)),
        phases=phases,
    )


def scatter(real: Pixels, fake: Pixels) -> float:
    """Standard deviation of fake - real over the pixels, in levels; NaN if the shapes differ."""
    if real.shape != fake.shape:
        return np.nan
    return float(np.subtract(fake, real, dtype=np.int16).std())  # int16: uint8 would wrap below 0


def _counts(pixels: Pixels) -> Numbers:
    """(3, 256) number of pixels at each level of each channel."""
    channels = np.moveaxis(pixels, 2, 0).reshape(pixels.shape[2], -1)
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels])
    return np.broadcast_to(counts, (3, 256)).astype(np.float64)


def _empty_end(counts: Numbers) -> float:
    """Share of channels without a pixel at level 0, among the channels that reach the levels next to it.

    Clipping piles pixels up at the last level, whatever made the image. After a shift by one, the pile is
    next to an empty last level.
    """
    reached = counts[:, : _NEAR + 1].sum(axis=1) >= _REACHED
    return float((counts[:, 0] == 0)[reached].mean()) if reached.any() else np.nan


def _gaps(counts: Numbers) -> float:
    """Share of empty levels among all levels that have full neighbours."""
    empty = _empty(counts)
    full = empty >= 0
    return float(empty[full].mean()) if full.sum() >= _LEAST_LEVELS else np.nan


def _empty(counts: Numbers) -> NDArray[np.int8]:
    """From the number of pixels at each level, (..., 256), whether it is a gap, (..., 254).

    See `Features.empty` for the values.
    """
    beside = (counts[..., :-2] + counts[..., 2:]) / 2
    empty = (counts[..., 1:-1] < _EMPTY * beside).astype(np.int8)
    full = beside >= _FULL
    full[..., [0, -1]] = False  # next to 0 and 255, where clipped pixels pile up, any level looks empty
    return np.where(full, empty, np.int8(-1))


def window(pixels: Pixels) -> Pixels:
    """The central part of an image, with its corner on the 8-grid, so that JPEG blocks stay aligned."""
    top, left = (max(0, side - WINDOW) // 2 // 8 * 8 for side in pixels.shape[:2])
    return pixels[top : top + WINDOW, left : left + WINDOW]


def _phases(luma: Plane) -> Numbers:
    """(8,) gradients by phase: phase p is between pixels p and p + 1 modulo 8, across columns and rows."""
    if min(luma.shape) < 17:  # each phase needs at least two gradients
        return np.full(8, np.nan)
    across, down = np.abs(np.diff(luma, axis=1)).mean(axis=0), np.abs(np.diff(luma, axis=0)).mean(axis=1)
    profile = np.array([across[phase::8].mean() + down[phase::8].mean() for phase in range(8)], np.float64)
    return profile / max(float(profile.mean()), 1e-6)


def _high_frequency(luma: Plane) -> float:
    """Decimal logarithm of the energy of the Laplacian relative to the variance of the image."""
    if min(luma.shape) < 3:
        return np.nan
    inner = luma[1:-1, 1:-1]
    laplacian = 4 * inner - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    spread = float(luma.var())
    return float(np.log10(max(float((laplacian**2).mean()) / spread, 1e-9))) if spread > 1e-3 else np.nan
