"""Image files: what is read, what is refused and why, and that writing loses nothing but JPEG's own."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.codec import Picture, Pixels, decode, decode_rgb, encode, image_size, recompress
from recon.jpeg.turbo import decode_plain_jpeg

MAX = 1_000_000
ORIENTATION = 0x0112

pixels_of_any_size = st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from((1, 3))).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def file_of(image: Image.Image, codec: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, codec, **options)
    return out.getvalue()


def jpeg(subsampling: str, quality: int = -1, channels: int = 3, **options: object) -> bytes:
    """A JPEG of noise; 3x1, which Pillow can't write, is 4:2:2 with another factor."""
    pixels = noise(24, 40, channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if subsampling != "3x1":
        return file_of(image, "JPEG", quality=quality, subsampling=subsampling, **options)
    data = file_of(image, "JPEG", quality=quality, subsampling="4:2:2", **options)
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x21
    return data[: frame + 11] + b"\x31" + data[frame + 12 :]


@pytest.mark.parametrize("codec", ["png", "webp"])
@settings(deadline=None, max_examples=60)
@given(pixels=pixels_of_any_size)
def test_png_and_webp_give_every_pixel_back(codec: str, pixels: Pixels) -> None:
    data = encode(pixels, Picture(pixels=pixels, codec="jpeg"), codec)
    back = decode(data, max_pixels=MAX)
    assert back.codec == codec
    grey_as_rgb = codec == "webp" and pixels.shape[2] == 1  # WebP has no grey
    assert np.array_equal(back.pixels, np.repeat(pixels, 3, axis=2) if grey_as_rgb else pixels)


@settings(deadline=None, max_examples=60)
@given(
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(("4:4:4", "4:2:2", "4:2:0")),
    progressive=st.booleans(),
    channels=st.sampled_from((1, 3)),
)
def test_matched_jpeg_has_the_tables_subsampling_and_kind_of_the_real_one(
    quality: int, subsampling: str, progressive: bool, channels: int
) -> None:
    real = decode(jpeg(subsampling, quality, channels, progressive=progressive), max_pixels=MAX)
    fake = decode(encode(255 - real.pixels, real, "jpeg"), max_pixels=MAX)
    assert real.jpeg is not None
    assert fake.jpeg == real.jpeg
    assert real.jpeg.quality == quality
    assert real.jpeg.progressive == progressive
    assert real.jpeg.subsampling == ("grey" if channels == 1 else subsampling)
    assert fake.pixels.shape == real.pixels.shape


def test_jpeg_with_tables_of_its_own_is_matched() -> None:
    tables = [list(range(1, 65)), list(range(64, 0, -1))]
    real = decode(jpeg("4:2:0", qtables=tables), max_pixels=MAX)
    fake = decode(encode(real.pixels, real, "jpeg"), max_pixels=MAX)
    assert real.jpeg is not None
    assert sorted(map(sorted, real.jpeg.tables)) == [list(range(1, 65))] * 3
    assert fake.jpeg == real.jpeg


def test_jpeg_that_the_encoder_cannot_match_is_rejected_with_its_cause() -> None:
    real = decode(jpeg("3x1"), max_pixels=MAX)
    with pytest.raises(RejectedImageError, match="subsampling 3x1 can't be matched, expected one of 4:4:4, "):
        encode(real.pixels, real, "jpeg")


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "TIFF", "BMP"])
def test_grey_stays_grey(codec: str) -> None:
    picture = decode(file_of(Image.fromarray(noise(9, 7, 1)[..., 0]), codec), max_pixels=MAX)
    assert picture.pixels.shape == (9, 7, 1)
    assert decode(encode(picture.pixels, picture, "png"), max_pixels=MAX).pixels.shape == (9, 7, 1)


def test_grey_is_repeated_thrice_for_training() -> None:
    grey = noise(9, 7, 1)
    rgb = decode_rgb(file_of(Image.fromarray(grey[..., 0]), "PNG"))
    assert np.array_equal(rgb, np.repeat(grey, 3, axis=2))


def odd_files() -> dict[str, bytes]:
    rgb = Image.fromarray(noise(8, 8))
    return {
        "CMYK": file_of(rgb.convert("CMYK"), "JPEG"),
        "16-bit": file_of(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG"),
        "palette": file_of(rgb.quantize(8), "PNG"),
        "alpha": file_of(rgb.convert("RGBA"), "PNG"),
    }


@pytest.mark.parametrize("kind", sorted(odd_files()))
def test_image_that_is_not_8_bit_rgb_is_rejected_by_the_name_of_its_kind(kind: str) -> None:
    with pytest.raises(RejectedImageError, match=kind):
        decode(odd_files()[kind], max_pixels=MAX)


@pytest.mark.parametrize("kind", sorted(odd_files()))
def test_convert_makes_8_bit_rgb_and_says_what_it_was(kind: str) -> None:
    picture = decode(odd_files()[kind], max_pixels=MAX, convert=True)
    assert picture.pixels.shape == (8, 8, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.converted == kind


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP"])
def test_bomb_is_refused_by_its_header(codec: str) -> None:
    data = file_of(Image.new("RGB", (200, 100)), codec)
    with pytest.raises(RejectedImageError, match=r"200x100 exceeds max_pixels=19999; raise --max_pixels"):
        decode(data, max_pixels=19_999)
    assert image_size(data, max_pixels=20_000) == (100, 200)


def test_zero_bytes_are_rejected_as_such() -> None:
    with pytest.raises(RejectedImageError, match="zero bytes"):
        decode(b"", max_pixels=MAX)


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM"])
@settings(deadline=None, max_examples=25)
@given(share=st.floats(0.01, 0.9))
def test_truncated_file_is_rejected_and_never_half_read(codec: str, share: float) -> None:
    data = file_of(Image.fromarray(noise(32, 32)), codec)
    with pytest.raises(RejectedImageError):
        decode(data[: int(len(data) * share)], max_pixels=MAX)


@settings(deadline=None, max_examples=60)
@given(data=st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_image_are_rejected(data: bytes) -> None:
    with pytest.raises(RejectedImageError):
        decode(data, max_pixels=MAX)


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_carried_and_not_applied(codec: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    real = decode(file_of(Image.fromarray(noise(8, 16)), "JPEG", exif=exif), max_pixels=MAX)
    assert real.size == (8, 16)
    fake = decode(encode(real.pixels, real, codec), max_pixels=MAX)
    assert fake.size == (8, 16)
    assert fake.orientation == real.orientation == orientation


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg"])
def test_icc_profile_is_carried(codec: str) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    real = decode(file_of(Image.fromarray(noise(8, 8)), "JPEG", icc_profile=profile), max_pixels=MAX)
    assert real.icc == profile
    assert decode(encode(real.pixels, real, codec), max_pixels=MAX).icc == profile


def test_multi_picture_jpeg_is_read_as_its_first_picture() -> None:
    first, second = Image.fromarray(noise(8, 16)), Image.new("RGB", (4, 4))
    picture = decode(file_of(first, "MPO", save_all=True, append_images=[second]), max_pixels=MAX)
    assert picture.codec == "jpeg"
    assert picture.size == (8, 16)
    assert picture.jpeg is not None


def test_animation_is_rejected() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(RejectedImageError, match="several frames"):
        decode(data, max_pixels=MAX)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_image_one_pixel_high_or_wide_is_read(shape: tuple[int, int]) -> None:
    assert decode(file_of(Image.fromarray(noise(*shape)), "PNG"), max_pixels=MAX).size == shape


def pillows(data: bytes) -> Pixels:
    with Image.open(BytesIO(data), formats=("JPEG", "WEBP")) as image:
        return np.asarray(image.convert("RGB"))


def verdict(read: Callable[[bytes], Pixels], data: bytes) -> Pixels | None:
    try:
        return read(data)
    except Exception:  # Pillow lets nearly any through
        return None


def states_a_vast_size(data: bytes) -> bool:
    try:
        image_size(data, max_pixels=MAX)
    except RejectedImageError as error:
        return "exceeds" in str(error)
    return False


def smooth(height: int, width: int, channels: int, seed: int = 0) -> Image.Image:
    """Waves and some noise: unlike noise alone, all frequencies of a JPEG are in use and none is lost."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / (3 + c)) * np.cos(y / (5 - c)) for c in range(channels)]
    grain = np.random.default_rng(seed).normal(0, 20, (height, width, channels))
    pixels = (np.stack(waves, -1) + grain).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


jpegs_of_pillow = st.builds(
    lambda height, width, channels, seed, options, restarts: file_of(
        smooth(height, width, channels, seed), "JPEG", **options, **restarts
    ),
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from((1, 3)),
    st.integers(0, 99),
    st.fixed_dictionaries(
        {
            "quality": st.integers(1, 100),
            "subsampling": st.sampled_from(("4:4:4", "4:2:2", "4:2:0")),
            "progressive": st.booleans(),
            "optimize": st.booleans(),
        }
    ),
    st.one_of(
        st.just({}),
        st.builds(lambda n: {"restart_marker_blocks": n}, st.integers(1, 9)),
        st.builds(lambda n: {"restart_marker_rows": n}, st.integers(1, 3)),
    ),
)

jpegs_that_pillow_cannot_write = st.builds(
    lambda height, width, quality, subsampling: simplejpeg.encode_jpeg(
        np.asarray(smooth(height, width, 3)), quality=quality, colorsubsampling=subsampling
    ),
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(1, 100),
    st.sampled_from(("440", "411")),
)
plain_jpegs = jpegs_of_pillow | jpegs_that_pillow_cannot_write


@given(data=plain_jpegs)
@settings(max_examples=300, deadline=None)
def test_a_plain_jpeg_is_decoded_fast_to_the_pixels_of_pillow(data: bytes) -> None:
    fast = decode_plain_jpeg(data)
    assert fast is not None
    np.testing.assert_array_equal(fast, pillows(data))
    np.testing.assert_array_equal(decode_rgb(data), fast)


@given(data=plain_jpegs, where=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_jpeg_gets_the_verdict_and_the_pixels_of_pillow(data: bytes, where: st.DataObject) -> None:
    kind = where.draw(st.sampled_from(("bytes", "head", "cut", "cut and ended", "a scan less", "followed")))
    place = where.draw(st.integers(2, len(data) - 1))
    if kind in ("bytes", "head"):
        place = place % min(len(data), 620) if kind == "head" else place
        data = data[:place] + where.draw(st.binary(min_size=1, max_size=3)) + data[place + 1 :]
    elif kind == "a scan less":
        data = data[: data.rindex(b"\xff\xda")] + b"\xff\xd9"
    else:
        data = {"cut": data[:place], "cut and ended": data[:place] + b"\xff\xd9", "followed": data * 2}[kind]
    assume(not states_a_vast_size(data))
    expected, found = verdict(pillows, data), verdict(decode_rgb, data)
    assert (found is None) == (expected is None)
    np.testing.assert_array_equal(found, expected)


def test_a_truncated_jpeg_is_never_half_read_for_training() -> None:
    data = file_of(smooth(64, 64, 3), "JPEG")
    for end in range(len(data)):
        assert decode_plain_jpeg(data[:end]) is None
    for end in (0, 1, 2, 3, 200, len(data) // 2, len(data) - 10):
        with pytest.raises(OSError, match=r"(?i)truncated|identify"):
            decode_rgb(data[:end])


def odd_jpegs() -> dict[str, bytes]:
    image = smooth(33, 47, 3)
    return {
        "CMYK": file_of(image.convert("CMYK"), "JPEG"),
        "stored as RGB": file_of(image, "JPEG", keep_rgb=True),
        "factors without a name": jpeg("3x1", 90),
        "no JPEG": file_of(image, "WEBP"),
    }


@pytest.mark.parametrize("kind", sorted(odd_jpegs()))
def test_an_odd_jpeg_is_left_to_pillow(kind: str) -> None:
    data = odd_jpegs()[kind]
    assert decode_plain_jpeg(data) is None
    np.testing.assert_array_equal(verdict(decode_rgb, data), verdict(pillows, data))


def test_exif_orientation_is_not_applied_for_training() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = file_of(smooth(8, 16, 3), "JPEG", exif=exif)
    assert decode_rgb(data).shape == (8, 16, 3)
    np.testing.assert_array_equal(decode_rgb(data), pillows(data))


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
@pytest.mark.parametrize("size", [(128, 128), (1, 1), (17, 130)])
def test_recompression_is_pillows_save_and_load(codec: str, size: tuple[int, int]) -> None:
    image = smooth(*size, 3)
    qualities = range(1, 101) if codec == "jpeg" else (1, 30, 75, 100)
    for quality in qualities:
        expected = pillows(file_of(image, codec.upper(), quality=quality))
        np.testing.assert_array_equal(recompress(np.asarray(image), codec, quality), expected)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
def test_recompression_takes_the_encoders_options(subsampling: str) -> None:
    image = smooth(40, 56, 3)
    expected = pillows(file_of(image, "JPEG", quality=60, subsampling=subsampling))
    found = recompress(np.asarray(image), "jpeg", 60, subsampling=subsampling)
    np.testing.assert_array_equal(found, expected)


def test_recompression_refuses_an_image_that_the_codec_has_no_room_for() -> None:
    with pytest.raises(RejectedImageError, match="17000x1 can't be compressed as webp"):
        recompress(np.zeros((1, 17000, 3), np.uint8), "webp", 50)


def test_recompression_takes_a_part_of_an_image() -> None:
    part = np.asarray(smooth(60, 70, 3))[5:40, 3:60]
    expected = pillows(file_of(Image.fromarray(part), "JPEG", quality=50))
    np.testing.assert_array_equal(recompress(part, "jpeg", 50), expected)
