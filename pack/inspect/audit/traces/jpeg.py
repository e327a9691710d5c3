"""Traces of JPEG in one image, at whichever of the 64 phases its 8x8 grid lies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.traces.luma import luma_of
from recon.image.codec import Pixels
from recon.image.jpeg_grid import LEAST_SIDE, jpeg_phase

_STEPS = np.arange(2, 41)  # quantisation steps to try; the rounding to grey levels hides a step of 1
_LEAST_BLOCKS = 64  # coefficients beyond half a step; with fewer the best step fits by chance
_LOW = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))  # frequencies of 8x8 blocks that are seldom zero
_MIDDLE = ((0, 3), (3, 0), (1, 2), (2, 1), (1, 3), (0, 4), (4, 0))  # their steps tell close qualities apart
_CLEAR = 0.4  # coefficients that match a step so well lie on its multiples
_NEARLY = 0.85  # of the best match: divisors of the true step match too, so the largest such step counts

Plane = NDArray[np.float32]


def jpeg_values(pixels: Pixels) -> dict[str, float]:
    """The numbers of an image, (H, W, C) uint8, by name.

    ``jpeg_before``: 1 if a grid was found, 0 if not, NaN if the image is too small to tell. ``jpeg_traces``:
    how closely low frequencies of the 8x8 blocks lie on multiples of one step, about 0..1; blocks that once
    were JPEG do, in whatever format they are stored. Coefficients within half a step of zero are left out, so
    a decoder's own 8x8 pattern and its smoothness do not count. Clipped blocks are left out too, because
    clipping moves their coefficients. ``jpeg_steps``: the mean of the steps of middle frequencies, NaN
    without traces; it differs if the two images of a pair were compressed at other qualities. A step of 1
    (quality 95 and above) is invisible. After Fan and de Queiroz, Identification of bitmap compression
    history, 2003; the quantisation tables need not be known.
    """
    phase = jpeg_phase(pixels)
    row, column = divmod(max(phase, 0), 8)
    cut = pixels[row:, column:]
    luma = luma_of(cut)
    inside = ~_clipped(cut)
    low = [_fits(sizes[inside]) for sizes in _coefficients(luma, _LOW)]
    # The median of the frequencies: one that fits a step by chance does not decide.
    known = [float(fits.max()) for fits in low if len(fits)]
    traces = float(np.median(known)) if known else np.nan
    before = np.nan if min(pixels.shape[:2]) < LEAST_SIDE else float(phase >= 0)
    steps = [_step(sizes[inside]) for sizes in _coefficients(luma, _MIDDLE)] if traces > _CLEAR / 2 else []
    found = [one for one in steps if one is not None]
    return {
        "jpeg_before": before,
        "jpeg_traces": traces,
        "jpeg_steps": float(np.mean(found)) if len(found) > len(_MIDDLE) // 2 else np.nan,
    }


def _clipped(pixels: Pixels) -> NDArray[np.bool_]:
    """(N,) whether an aligned 8x8 block touches level 0 or 255 anywhere."""
    rows, columns, channels = pixels.shape[0] // 8, pixels.shape[1] // 8, pixels.shape[2]
    if not rows * columns:
        return np.zeros(0, np.bool_)
    blocks = pixels[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8 * channels)
    return np.asarray((blocks.min(axis=(1, 3)) == 0) | (blocks.max(axis=(1, 3)) == 255)).ravel()


def _coefficients(luma: Plane, frequencies: Sequence[tuple[int, int]]) -> list[Plane]:
    """For each frequency the (N,) magnitudes of the orthonormal cosine coefficients of the aligned blocks."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    blocks = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    places = np.arange(8)
    waves = [np.cos(np.pi * (2 * places + 1) * u / 16) * np.sqrt((1 if u == 0 else 2) / 8) for u in range(5)]
    basis = np.stack(waves).astype(np.float32)
    transformed = np.einsum("ricj,ui,vj->uvrc", blocks, basis, basis, optimize=True)
    return [np.abs(transformed[u, v].ravel()) for u, v in frequencies]


def _fits(size_N: Plane) -> NDArray[np.float64]:
    """For each of `_STEPS`, as far as there are enough, the mean of cos(2 pi c / step) of the coefficients c.

    The cosine is 1 for a multiple of the step, and 0 on average for coefficients spread at random. Those up
    to half a step are left out.
    """
    fits = []
    for step in _STEPS:
        kept = size_N[size_N > step / 2]
        if len(kept) < _LEAST_BLOCKS:  # larger steps keep even fewer
            break
        fits.append(float(np.cos(kept * np.float32(2 * np.pi / step)).mean()))
    return np.array(fits, np.float64)


def _step(size_N: Plane) -> float | None:
    fits = _fits(size_N)
    if not len(fits) or fits.max() < _CLEAR:
        return None
    return float(_STEPS[: len(fits)][fits >= _NEARLY * fits.max()].max())
