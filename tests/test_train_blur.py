"""Both paths of the blur against scipy's blur of the whole image, bit for bit."""

import numpy as np
import pytest
import torch
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from recon.image.codec import Pixels
from train.draws.config import blur_radius
from train.ops.blur import blur, blur_loop, blur_tensor

RADIUS = 12
SIGMAS = [0.0, 1e-16, 1e-10, 0.1, 0.124, 0.125, 0.3, 0.37, 0.5, 1.0, 1.12, 1.5, 2.0, 2.875, 3.0, 3.12]
PATHS = pytest.mark.parametrize("path", [blur_loop, blur_tensor])


def reference(pixels: Pixels, sigma: float) -> Pixels:
    return np.stack([gaussian_filter(plane, sigma) for plane in np.moveaxis(pixels, 2, 0)])


def patches(height: int, width: int, seed: int) -> Pixels:
    """Flat rectangles of every level: where the last bit of a sum decides the level."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(256), np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, (height, width))
        pixels[top : top + 40, left : left + 40] = rng.integers(0, 256, 3)
    return pixels


def window(pixels: Pixels, top: int, left: int, side: int) -> Pixels:
    """(3, side, side) anywhere around an image, mirrored beyond its edges."""
    far = side + max(abs(top), abs(left))
    padded = np.pad(pixels, ((far, far), (far, far), (0, 0)), "symmetric")
    return padded[top + far : top + far + side, left + far : left + far + side].transpose(2, 0, 1)


@PATHS
def test_window_is_that_part_of_scipys_whole_image(path) -> None:
    """Windows inside, across and beyond the edges, images smaller than the kernel among them."""
    rng = np.random.default_rng(0)
    side, windows, expected, sigmas = 40, [], [], []
    for row in range(80):
        height, width = rng.integers(1, 90, 2)
        images = (photograph, patches)[row % 2](height, width, row), patches(height, width, ~row & 0xFFFF)
        top, left = (int(rng.integers(-15, max(1, size))) for size in (height, width))
        sigma = SIGMAS[row] if row < len(SIGMAS) else float(rng.uniform(0, 3))
        sigmas.append(sigma)
        windows.append([window(i, top - RADIUS, left - RADIUS, side + 2 * RADIUS) for i in images])
        blurred = [np.moveaxis(reference(i, sigma), 0, 2) for i in images]
        expected.append([window(i, top, left, side) for i in blurred])
    found = path(torch.from_numpy(np.array(windows)), np.array(sigmas), RADIUS)
    assert np.array_equal(found.numpy(), np.array(expected))


@PATHS
@pytest.mark.parametrize("sigma", SIGMAS)
def test_flat_images_of_every_level(path, sigma: float) -> None:
    """A sum of weights just below 1 makes 254 of 255, and scipy's does."""
    levels = np.arange(256, dtype=np.uint8)
    flat = levels.reshape(128, 2, 1, 1, 1) + np.zeros((1, 1, 1, 27, 27), np.uint8)
    expected = np.array([gaussian_filter(np.full((3, 3), level, np.uint8), sigma) for level in levels])
    found = path(torch.from_numpy(flat), np.full(128, sigma), RADIUS)
    assert np.array_equal(found.numpy(), expected.reshape(128, 2, 1, 3, 3))


@settings(deadline=None, max_examples=40)
@given(sigmas=st.lists(st.floats(0, 3), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_both_paths_agree_whatever_the_batch(sigmas: list[float], seed: int) -> None:
    count = len(sigmas)
    pixels = np.stack([patches(44, 50, seed + i) for i in range(2 * count)]).transpose(0, 3, 1, 2)
    x_BPCHW = torch.from_numpy(pixels.copy()).view(count, 2, 3, 44, 50)
    sigma_B = torch.tensor(sigmas, dtype=torch.float64)
    together = blur_tensor(x_BPCHW, sigma_B, RADIUS)
    assert torch.equal(together, blur(x_BPCHW, sigma_B, RADIUS))
    for row in range(count):
        one = slice(row, row + 1)
        assert torch.equal(blur_tensor(x_BPCHW[one], sigma_B[one], RADIUS), together[one])


def test_sigma_that_reaches_beyond_the_margin_is_refused() -> None:
    assert blur_radius(3.0) == RADIUS
    for path in (blur_loop, blur_tensor):
        with pytest.raises(AssertionError, match="reaches 13 px, the window has 12"):
            path(torch.zeros(1, 2, 3, 30, 30, dtype=torch.uint8), np.array([3.2]), RADIUS)
