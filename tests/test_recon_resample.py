"""A part of a resized image has Pillow's pixels, and reads no more of the source than it depends on."""

import numpy as np
import pytest
from conftest import photograph
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recon.image.codec import Pixels
from recon.image.drawing import columns_first, resize
from recon.kernels.resample import resized_part, source_of

SIDES = st.integers(1, 400)
SHARES = st.tuples(*[st.floats(0, 1)] * 4)


def part(pixels: Pixels, resized: tuple[int, int], box: tuple[int, int, int, int]) -> Pixels:
    size = (pixels.shape[0], pixels.shape[1])
    top, left, height, width = source_of(size, resized, box)
    source = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    first = columns_first(size, resized)
    return resized_part(source, (top, left), size, resized, box, columns_first=first)


def box_in(size: tuple[int, int], shares: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    height, width = (1 + int(share * (one - 1)) for one, share in zip(size, shares[2:], strict=True))
    return int(shares[0] * (size[0] - height)), int(shares[1] * (size[1] - width)), height, width


@given(SIDES, SIDES, SIDES, SIDES, SHARES, st.booleans())
@example(500, 375, 256, 256, (0.3, 0.6, 0.5, 0.4), False)
@example(375, 500, 256, 256, (0.3, 0.6, 0.5, 0.4), False)
@example(400, 20, 19, 18, (0, 0, 1, 1), True)  # much higher, not much wider: along columns first
@example(256, 256, 256, 256, (0, 0, 1, 1), True)
@settings(max_examples=200, deadline=None)
def test_a_part_is_that_of_pillows_whole(
    height: int, width: int, high: int, wide: int, shares: tuple[float, float, float, float], hard: bool
) -> None:
    pixels = photograph(height, width, 1)
    if hard:  # levels 0 and 255 alone: all that rounding may overflow
        pixels = (np.random.default_rng(0).integers(0, 2, pixels.shape) * 255).astype(np.uint8)
    box = box_in((high, wide), shares)
    expected = resize(pixels, high, wide)[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    np.testing.assert_array_equal(part(pixels, (high, wide), box), expected)


@pytest.mark.parametrize("width", range(1, 10))
def test_a_part_narrower_than_what_is_summed_at_once_is_pillows(width: int) -> None:
    pixels = photograph(30, width, 3)
    for wide in (1, 3, 8, 20):
        np.testing.assert_array_equal(
            part(pixels, (12, wide), (0, 0, 12, wide)), resize(pixels, 12, wide), str(wide)
        )


def test_a_small_part_depends_on_a_small_part() -> None:
    assert source_of((3000, 4000), (256, 256), (100, 50, 100, 100)) == (1166, 773, 1184, 1579)


def test_the_order_is_that_of_the_installed_pillow() -> None:
    pixels = photograph(400, 100, 2)
    rows, columns = (
        resized_part(pixels, (0, 0), (400, 100), (90, 80), (0, 0, 90, 80), columns_first=first)
        for first in (False, True)
    )
    assert not np.array_equal(rows, columns)
    assert np.array_equal(columns, resize(pixels, 90, 80)) == columns_first((400, 100), (90, 80))
