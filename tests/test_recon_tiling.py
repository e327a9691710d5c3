"""Large images run in tiles whose place follows from their size, and whose seams don't show."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from recon_images import config, noise

from recon.base.errors import UserError
from recon.batches import bucket
from recon.models.config import MIN_TILING_PIXELS
from recon.models.load import load
from recon.models.types import Autoencoder
from recon.reconstruct import reconstruct
from recon.tiling import OVERLAP, reconstruct_tiled, tile_axes

Floats = NDArray[np.float32]
sides = st.integers(1, 20_000)
limits = st.integers(MIN_TILING_PIXELS, 1 << 23)
multiples = st.sampled_from((1, 2, 8, 16))


@given(height=sides, width=sides, limit=limits, multiple=multiples)
def test_tiles_cover_the_image_overlap_and_keep_to_the_limit(
    height: int, width: int, limit: int, multiple: int
) -> None:
    size = bucket(height, width, multiple)
    axes = tile_axes(size, limit, multiple)
    assert axes[0].length * axes[1].length <= limit
    for axis, side in zip(axes, (size.height, size.width), strict=True):
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.length == side
        assert all(number % multiple == 0 for number in (axis.length, *axis.starts))
        for start, following in pairwise(axis.starts):
            assert start < following <= start + axis.length - OVERLAP


@given(height=sides, width=sides, limit=limits)
def test_shares_of_the_tiles_sum_to_one_everywhere(height: int, width: int, limit: int) -> None:
    for axis, side in zip(
        tile_axes(bucket(height, width, 8), limit, 8), bucket(height, width, 8), strict=False
    ):
        total = np.zeros(side, np.float32)
        for start, share in zip(axis.starts, axis.shares(), strict=True):
            total[start : start + axis.length] += share
        assert np.abs(total - 1).max() < 1e-6


def test_image_within_the_limit_is_one_tile_and_a_panorama_is_cut_along_its_length_alone() -> None:
    assert [axis.starts for axis in tile_axes(bucket(512, 512, 8), 512 * 512, 8)] == [(0,), (0,)]
    rows, columns = tile_axes(bucket(512, 9000, 8), 1 << 20, 8)
    assert rows.starts == (0,)
    assert len(columns.starts) == 5
    assert columns.length <= 2048


def test_photograph_of_12_megapixels_takes_six_tiles_by_default() -> None:
    rows, columns = tile_axes(bucket(3000, 4000, 8), config("tiny").tiling_pixels, 8)
    assert (len(rows.starts), len(columns.starts)) == (2, 3)


def test_tiles_that_are_what_they_were_give_the_image_back() -> None:
    x_CHW = np.random.default_rng(0).random((3, 800, 1200), np.float32)
    numbers: list[int] = []
    y_CHW = reconstruct_tiled(lambda tile, number: numbers.append(number) or tile, x_CHW, 1 << 18, 8)
    assert np.abs(x_CHW - y_CHW).max() < 1e-6
    assert numbers == list(range(len(numbers)))


@pytest.fixture(scope="module")
def tiny() -> Autoencoder:
    return load(config("tiny", tiling_pixels=MIN_TILING_PIXELS))


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """A ramp with some grain: a step of the reconstruction would show on it."""
    ramp = np.linspace(40, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return (ramp + noise(height, width) / 64).astype(np.uint8)


def test_seams_stay_below_the_pictures_own_steps(tiny: Autoencoder) -> None:
    image = smooth(256, 1500)
    assert len(tile_axes(bucket(256, 1500, 8), MIN_TILING_PIXELS, 8)[1].starts) == 2
    [tiled] = reconstruct(tiny, [image], ["key"], 1)
    assert tiled.shape == image.shape
    steps = np.abs(np.diff(tiled.astype(float), axis=1).mean((0, 2)))
    seam = steps[750 - OVERLAP // 2 : 750 + OVERLAP // 2]
    assert seam.max() <= np.quantile(steps, 0.99) + 0.25


def test_tiled_result_depends_on_the_image_alone_and_is_close_to_that_in_one_piece(tiny: Autoencoder) -> None:
    whole = load(config("tiny"))
    assert whole.provenance == replace(tiny.provenance, tiling_pixels=whole.provenance.tiling_pixels)
    images, keys = [smooth(256, 1500), smooth(250, 1490), noise(64, 64)], list("abc")
    one = [reconstruct(tiny, [image], [key], 1)[0] for image, key in zip(images, keys, strict=True)]
    together = reconstruct(tiny, images, keys, 8)
    assert all(np.array_equal(a, b) for a, b in zip(one, together, strict=True))
    [untiled] = reconstruct(whole, images[:1], ["a"], 1)
    assert np.abs(untiled.astype(float) - one[0]).mean() <= 1


def test_tiles_of_a_posterior_sample_differ_and_come_again() -> None:
    autoencoder = load(config("tiny", tiling_pixels=MIN_TILING_PIXELS, posterior="sample"))
    image = np.full((64, 6000, 3), 128, np.uint8)
    first, again, other = (reconstruct(autoencoder, [image], [key], 1)[0] for key in ("a", "a", "b"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_limit_too_small_for_the_overlap_is_refused() -> None:
    with pytest.raises(UserError, match="tiling_pixels=1000, expected at least 262144"):
        config("tiny", tiling_pixels=1000)
