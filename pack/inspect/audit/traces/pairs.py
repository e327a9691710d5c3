"""How a reconstruction relates to its real image: moved, scaled, sharpened, in other colours.

A decoder changes what is fine: it smooths, or invents detail that does not follow the real image. It does not
move the picture, nor does it raise what it shares with the real image, nor exchange colours.
"""

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.traces.luma import LUMA, luma_of
from recon.image.codec import Pixels
from recon.image.jpeg_grid import LEAST_SIDE

BEATS = 8
"""Frequencies of `beats`: 1 to this many cycles an image, for as many pixels added."""

_COARSEST = 16  # pixels: beats as short as the grid of JPEG's chroma, or shorter, may be a grid
_BLOCK = 8  # pixels: means over such blocks hold colour without detail
_LEAST_CHROMA = 9.0  # levels squared: variance of the block means of an image that is coloured enough
_BAND = (0.12, 0.25)  # cycles a pixel: what sharpening raises and decoders still follow
_EDGE = 12  # pixels at each side that beats leave out, because decoders are different there

Plane = NDArray[np.floating[Any]]

UNRELATED = {"shift_down": 0.0, "shift_across": 0.0, "saturation": 1.0, "exchanged": 0.0, "sharpness": 1.0}
"""The numbers of a real image, to which those of its reconstruction are compared."""


def pair_values(real: Pixels, fake: Pixels) -> dict[str, float]:
    """The numbers of `UNRELATED` for a reconstruction; NaN if they can't be told.

    ``shift_down``, ``shift_across``: pixels by which the content moved. ``saturation``: what the real's
    colour differences are multiplied by. ``exchanged``: 1 if the channels in another order resemble the real
    image more. ``sharpness``: what the real's details are multiplied by.

    Args:
        real: (H, W, C) uint8.
        fake: (H, W, C) uint8.
    """
    if real.shape != fake.shape or min(real.shape[:2]) < LEAST_SIDE:
        return dict.fromkeys(UNRELATED, np.nan)
    down, across = _shift(luma_of(real), luma_of(fake))
    return {
        "shift_down": down,
        "shift_across": across,
        "saturation": _saturation(real, fake),
        "exchanged": _exchanged(real, fake),
        "sharpness": _gain(luma_of(real), luma_of(fake)),
    }


def beats(real: Pixels, fake: Pixels) -> NDArray[np.complex128]:
    """(BEATS,) how the fake's sharpness against the real's goes up and down along the image.

    An image that was scaled by a few pixels and back is sharp where old and new pixels meet, and soft
    between: as often along its side as pixels were added. NaN if it can't be told.

    Source: Popescu and Farid, Exposing digital forgeries by detecting traces of resampling, 2005.
    """
    if real.shape != fake.shape or min(real.shape[:2]) < LEAST_SIDE:
        return np.full(BEATS, np.nan, np.complex128)
    planes = luma_of(real), luma_of(fake)
    return _beats(*planes) + _beats(*(plane.T for plane in planes))


def _shift(real: Plane, fake: Plane) -> tuple[float, float]:
    """Pixels by which the fake's content lies lower and further right, by least squares on gradients."""
    for _ in range(3):  # smoothed, so that gradients hold over more than a pixel
        real, fake = _smooth(real), _smooth(fake)
    mean = (real + fake) / 2
    down, across = (mean[2:, 1:-1] - mean[:-2, 1:-1]) / 2, (mean[1:-1, 2:] - mean[1:-1, :-2]) / 2
    gradients = np.stack([down.ravel(), across.ravel()]).astype(np.float64)
    moments = gradients @ gradients.T
    if np.linalg.det(moments) < 1e-6 * moments.trace() ** 2 or moments.trace() == 0:  # stripes, or flat
        return np.nan, np.nan
    moved = np.linalg.solve(moments, gradients @ (real - fake)[1:-1, 1:-1].ravel().astype(np.float64))
    return float(moved[0]), float(moved[1])


def _smooth(plane: Plane) -> Plane:
    plane = (plane[:-2] + 2 * plane[1:-1] + plane[2:]) / 4
    return (plane[:, :-2] + 2 * plane[:, 1:-1] + plane[:, 2:]) / 4


def _means(pixels: Pixels) -> NDArray[np.float64]:
    """(N, C) mean of each block of each channel."""
    rows, columns = (side // _BLOCK for side in pixels.shape[:2])
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, -1)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64).reshape(rows * columns, -1))


def _saturation(real: Pixels, fake: Pixels) -> float:
    if real.shape[2] != 3:
        return np.nan
    colours = [means - (means @ LUMA)[:, None] for means in (_means(real), _means(fake))]
    one, other = (colour - colour.mean(axis=0) for colour in colours)
    energy = float((one**2).sum())
    return float((one * other).sum()) / energy if energy > _LEAST_CHROMA * len(one) else np.nan


def _exchanged(real: Pixels, fake: Pixels) -> float:
    if real.shape[2] != 3:
        return np.nan
    one, other = _means(real), _means(fake)
    same, *errors = (((other - one[:, order]) ** 2).mean() for order in permutations(range(3)))
    # Clearly less: of a grey image all orders are alike.
    return float(min(errors) < 0.7 * same)


def _gain(real: Plane, fake: Plane) -> float:
    """What the details of the real image are multiplied by in the fake; its own details don't count."""
    height, width = real.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    one, other = (np.fft.rfft2((plane - plane.mean()) * window) for plane in (real, fake))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    band = (radius >= _BAND[0]) & (radius < _BAND[1])
    energy = float((np.abs(one[band]) ** 2).sum())
    return float((other[band] * one[band].conj()).real.sum()) / energy if energy > 0 else np.nan


def _beats(real: Plane, fake: Plane) -> NDArray[np.complex128]:
    energies = [((2 * p[:, 1:-1] - p[:, :-2] - p[:, 2:]) ** 2).mean(axis=0) for p in (real, fake)]
    profile = np.log((energies[1] + 0.1) / (energies[0] + 0.1))[_EDGE:-_EDGE].astype(np.float64)
    window = np.hanning(len(profile))  # else the strong 8-grid of a decoder shows in all frequencies
    profile = (profile - float(profile @ window) / float(window.sum())) * window
    cycles = np.arange(1, BEATS + 1)
    places = (np.arange(len(profile)) + _EDGE + 1.5) / real.shape[1]
    waves = np.exp(-2j * np.pi * np.outer(cycles, places)) * (cycles * _COARSEST < real.shape[1])[:, None]
    # Relative to the profile: a picture with strong contrasts counts no more than another one.
    return np.asarray(waves @ profile / max(float(np.linalg.norm(profile)), 1e-9))
