"""A JPEG put together plane by plane is the one that libjpeg-turbo writes, in every subsampling."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from conftest import ORIENTATION, PROFILE
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_files import file_of
from PIL import Image

from recon.image.codec import Picture, Pixels, decode, decode_rgb, encode
from recon.image.jpeg import SUBSAMPLINGS, JpegCoding, standard_coding
from recon.image.jpeg_write import _by_planes

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70), st.just(3))
images = sizes.flatmap(lambda shape: arrays(np.uint8, shape))


def pillows(data: bytes) -> Pixels:
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        return np.asarray(image)


def coding_of(data: bytes) -> JpegCoding:
    found = decode(data, max_pixels=10**6).jpeg
    assert found is not None
    return found


@given(pixels=images, quality=st.integers(96, 100), subsampling=st.sampled_from(("4:4:0", "4:1:1")))
@settings(max_examples=150, deadline=None)
def test_the_pixels_are_those_of_libjpegs_own_encoder(pixels: Pixels, quality: int, subsampling: str) -> None:
    name = subsampling.replace(":", "")
    # Below quality 96 simplejpeg takes a coarser DCT, which the writer must not repeat.
    expected = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=name, fastdct=False)
    like = decode(expected, max_pixels=10**6)
    found = encode(pixels, like, "jpeg")
    assert coding_of(found) == like.jpeg
    np.testing.assert_array_equal(pillows(found), pillows(expected))


@given(pixels=images, quality=st.integers(1, 100), progressive=st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_pixels_are_those_of_pillow_where_it_can_write_the_coding(
    pixels: Pixels, quality: int, progressive: bool
) -> None:
    options = {"quality": quality, "progressive": progressive, "subsampling": "4:4:4"}
    expected = file_of(Image.fromarray(pixels), "JPEG", **options)
    found = _by_planes(pixels, coding_of(expected), {})
    assert coding_of(found) == coding_of(expected)
    np.testing.assert_array_equal(pillows(found), pillows(expected))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:0", "4:1:1"])
def test_own_tables_orientation_and_profile_are_written(subsampling: str, progressive: bool) -> None:
    tables = tuple(tuple(range(first, first + 64)) for first in (3, 50, 120))
    coding = JpegCoding(tables=tables, subsampling=subsampling, progressive=progressive)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    like = Picture(pixels=pixels, codec="jpeg", orientation=6, icc=PROFILE, jpeg=coding)
    found = decode(encode(pixels, like, "jpeg"), max_pixels=10**6)
    assert (found.jpeg, found.orientation, found.icc) == (coding, 6, PROFILE)
    assert found.pixels.shape == pixels.shape
    with Image.open(BytesIO(encode(pixels, like, "jpeg"))) as image:
        assert image.getexif()[ORIENTATION] == 6


def with_factors(data: bytes, factors: str) -> bytes:
    """Other sampling factors for Y, Cb and Cr in the header of a JPEG of one scan for each component."""
    frame = data.index(b"\xff\xc0")
    out = bytearray(data)
    for number, one in enumerate(factors.split(",")):
        across, down = map(int, one.split("x"))
        out[frame + 11 + 3 * number] = across << 4 | down
    return bytes(out)


@pytest.mark.parametrize(
    ("factors", "name"),
    [
        ("2x2,1x2,1x2", "4:2:2"),
        ("1x2,1x2,1x2", "4:4:4"),
        ("2x2,2x2,2x2", "4:4:4"),
        ("2x2,2x1,2x1", "4:4:0"),
        ("4x2,2x1,2x1", "4:2:0"),
        ("4x2,1x2,1x2", "4:1:1"),
    ],
)
@pytest.mark.parametrize("shape", [(33, 47, 3), (64, 64, 3), (1, 9, 3)])
def test_sampling_is_named_and_matched_by_its_effect(
    factors: str, name: str, shape: tuple[int, int, int]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    coding = replace(standard_coding(90, grey=False), subsampling=name)
    plain = _by_planes(pixels, coding, {})
    odd = with_factors(plain, factors)
    assert odd != plain
    real = decode(odd, max_pixels=10**6)
    assert real.jpeg == coding
    np.testing.assert_array_equal(real.pixels, decode(plain, max_pixels=10**6).pixels)
    np.testing.assert_array_equal(decode_rgb(odd), pillows(odd))
    assert coding_of(encode(real.pixels, real, "jpeg")) == coding


def test_every_subsampling_that_can_be_written_has_a_name_of_its_own() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    for name in SUBSAMPLINGS:
        coding = replace(standard_coding(80, grey=False), subsampling=name)
        like = Picture(pixels=pixels, codec="jpeg", jpeg=coding)
        assert coding_of(encode(pixels, like, "jpeg")).subsampling == name
