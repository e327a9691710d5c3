"""A palette stands for all pixels: whatever is done to colours, the mean grey of both is about the same."""

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.image.palette import COLOURS, palette
from train.ops.jitter import grey_means


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3, 2), (95, 97), (375, 500)])
def test_it_has_64_colours_whatever_the_size(size: tuple[int, int]) -> None:
    found = palette(photograph(*size, 1))
    assert (found.shape, found.dtype) == ((COLOURS, 3), np.uint8)


def test_64_colours_of_equal_area_are_found_exactly() -> None:
    colours = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
    found = palette(colours.repeat(24, axis=0).repeat(36, axis=1))
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, colours.reshape(-1, 3).tolist()))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_pixels_does_not_matter(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 4, (96 * 96, 3), np.uint8) * 80
    mixed = np.random.default_rng(seed + 1).permutation(pixels)
    one, other = (palette(image.reshape(96, 96, 3)) for image in (pixels, mixed))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("number", range(6))
def test_its_mean_grey_is_the_image_s_whatever_the_jitter_does(number: int) -> None:
    pixels, random = photograph(300, 400, number), np.random.default_rng(number)
    colours = palette(pixels)[None]
    for _ in range(5):
        order = [0, 2, 3, 1]
        factors = {name: random.uniform(0.6, 1.4) for name in ("brightness", "contrast", "saturation")}
        hue = random.uniform(-0.1, 0.1)
        found, expected = (
            grey_means(x.transpose(2, 0, 1)[None], order, hue=hue, **factors)[0] for x in (colours, pixels)
        )
        assert abs(found - expected) <= 4
