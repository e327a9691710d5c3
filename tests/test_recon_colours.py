"""A palette stands for all pixels: whatever is done to colours, the mean grey of both is about the same."""

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.image.colours import COLOURS, COLOURS_BYTES, colours_of, palette, read_colours
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
            grey_means(x.transpose(2, 0, 1)[None], [np.ones(x.size // 3)], order, hue=hue, **factors)[0]
            for x in (colours, pixels)
        )
        assert abs(found - expected) <= 4


BOXES = st.tuples(st.integers(0, 299), st.integers(0, 399), st.integers(1, 300), st.integers(1, 400))


@given(BOXES)
def test_the_weights_of_a_part_are_the_areas_of_its_cells(box: tuple[int, int, int, int]) -> None:
    top, left = box[:2]
    height, width = min(box[2], 300 - top), min(box[3], 400 - left)
    colours = colours_of(photograph(300, 400, 0))
    cells = colours.cells.repeat(300, axis=0).repeat(400, axis=1)  # 16 x 16 points for each pixel
    inside = cells[16 * top : 16 * (top + height), 16 * left : 16 * (left + width)]
    found = colours.weights((300, 400), (top, left, height, width))
    np.testing.assert_array_equal(found, np.bincount(inside.reshape(-1), minlength=COLOURS))


def test_each_cell_has_two_of_the_colours_nearest_to_its_own() -> None:
    pixels = np.zeros((160, 160, 3), np.uint8)
    pixels[:, 80:] = (200, 100, 50)
    found = colours_of(pixels)
    assert (found.palette[found.cells[:, :8]] == 0).all()
    assert (found.palette[found.cells[:, 8:]] == (200, 100, 50)).all()


@pytest.mark.parametrize("number", range(6))
def test_the_mean_grey_of_a_part_is_told_by_the_map_whatever_the_jitter_does(number: int) -> None:
    pixels, random = photograph(300, 400, number), np.random.default_rng(number)
    colours = colours_of(pixels)
    for _ in range(5):
        height, width = random.integers(100, 300, 2).tolist()
        top, left = random.integers(0, (300 - height, 400 - width)).tolist()
        x = pixels[top : top + height, left : left + width]
        factors = {name: random.uniform(0.6, 1.4) for name in ("brightness", "contrast", "saturation")}
        weights = colours.weights((300, 400), (top, left, height, width))
        (found,), (expected,) = (
            grey_means(one.transpose(2, 0, 1)[None], [own], [0, 2, 1], hue=0, **factors)
            for one, own in ((colours.palette[None], weights), (x, np.ones(height * width)))
        )
        assert abs(found - expected) <= 8


def test_bytes_become_the_same_colours_and_others_none() -> None:
    colours = colours_of(photograph(50, 60, 0))
    found = read_colours(colours.packed())
    assert found
    assert len(colours.packed()) == COLOURS_BYTES
    assert (found.packed(), found.cells.shape) == (colours.packed(), (16, 16, 2))
    assert read_colours(colours.packed()[:-1]) is None
    assert read_colours(colours.packed()[:-1] + b"\x40") is None  # there is no colour 64
