"""Formats beyond JPEG, PNG and WebP, and the true cause of each file that can't be read."""

import importlib.util
import struct
import sys
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from conftest import ORIENTATION, PROFILE, photograph
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.codec import decode, decode_rgb
from recon.image.formats.jpeg2000 import is_reversible
from recon.image.header import read_header

MAX = 10**6
PHOTO = Image.fromarray(photograph(24, 32, 0))


def file_of(image: Image.Image, codec: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, codec, **options)
    return out.getvalue()


def several(codec: str) -> bytes:
    return file_of(PHOTO, codec, save_all=True, append_images=[PHOTO.rotate(180)])


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png_with(extra: bytes, *, at_end: bool = False) -> bytes:
    data = file_of(PHOTO, "PNG")
    place = len(data) - 12 if at_end else 33
    return data[:place] + extra + data[place:]


def tiff(compression: int, data: bytes) -> bytes:
    """A TIFF of one strip of compressed bytes, which Pillow does not write for every compression."""
    data += bytes(len(data) % 2)
    directory = 8 + len(data)
    depths = directory + 2 + 9 * 12 + 4
    tags = {256: 32, 257: 24, 258: depths, 259: compression, 262: 2, 273: 8, 277: 3, 278: 24, 279: len(data)}
    rows = [struct.pack("<HHII", tag, 4, 3 if tag == 258 else 1, value) for tag, value in tags.items()]
    ifd = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return b"II*\0" + struct.pack("<I", directory) + data + ifd + struct.pack("<III", 8, 8, 8)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def lossless_jpeg(frame: int) -> bytes:
    """A grey image of one level: every difference from its neighbour has the code 0 of the Huffman table."""
    header = segment(frame, struct.pack(">BHHB", 8, 8, 8, 1) + b"\x01\x11\x00")
    table = segment(0xC4, b"\0" + bytes([1, *[0] * 15]) + b"\0")
    return b"\xff\xd8" + header + table + segment(0xDA, b"\x01\x01\0\x01\0\0") + bytes(8) + b"\xff\xd9"


def misleading() -> dict[str, tuple[bytes, str]]:
    """File to the cause that says what is wrong with it."""
    text = chunk(b"tEXt", b"Title\0a photograph", crc=0)
    bomb = chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(2 << 20)))
    many = 65 * chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(1 << 20)))
    profile = chunk(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(2 << 20)))
    wide = file_of(Image.fromarray(np.zeros((8, 8), np.uint16)), "JPEG2000", no_jp2=True)
    return {
        "animated WebP": (several("WEBP"), "several frames (2 in this webp), expected one"),
        "APNG": (several("PNG"), "several frames (2 in this png), expected one"),
        "animated GIF": (several("GIF"), "several frames (2 in this gif), expected one"),
        "animated AVIF": (several("AVIF"), "several frames (2 in this avif), expected one"),
        "pages": (several("TIFF"), "several pages (2 in this tiff), expected one"),
        "LAB": (file_of(Image.new("LAB", (8, 8)), "TIFF"), "LAB image"),
        "WebP in TIFF": (tiff(50001, file_of(PHOTO, "WEBP")), "WebP in TIFF, which the installed Pillow"),
        "JPEG 2000 in TIFF": (tiff(34712, file_of(PHOTO, "JPEG2000")), "JPEG 2000 in TIFF, which"),
        "lossless JPEG": (lossless_jpeg(0xC3), "lossless JPEG, which has no quantisation tables"),
        "JPEG-LS": (lossless_jpeg(0xF7), "JPEG-LS, which has no quantisation tables"),
        "text": (png_with(text), "damaged tEXt chunk, which is metadata and not pixels"),
        "bomb": (
            png_with(bomb, at_end=True),
            "zTXt chunk larger than Pillow takes (over 1048576 bytes",
        ),
        "texts": (png_with(many), "texts larger than Pillow takes (over 67108864 bytes) together, which are"),
        "profile": (
            png_with(profile),
            "iCCP chunk larger than Pillow takes (over 1048576 bytes",
        ),
        "gamma": (png_with(chunk(b"gAMA", b"1"), at_end=True), "damaged gAMA chunk, which is metadata"),
        "EXIF in PNG": (png_with(chunk(b"eXIf", b"junk")), "damaged EXIF data"),
        "wide": (wide, "16-bit image, expected 8-bit RGB or grey"),
    }


@pytest.mark.parametrize("kind", misleading())
def test_what_cannot_be_read_is_rejected_by_its_true_cause(kind: str) -> None:
    data, cause = misleading()[kind]
    with pytest.raises(RejectedImageError) as error:
        decode(data, max_pixels=MAX)
    assert str(error.value).startswith(cause)
    assert "save" in str(error.value) or "--convert" in str(error.value)


@pytest.mark.parametrize(
    "kind", ["animated WebP", "APNG", "pages", "lossless JPEG", "text", "EXIF in PNG", "profile"]
)
def test_header_gives_the_cause_that_decoding_gives(kind: str) -> None:
    data, cause = misleading()[kind]
    with pytest.raises(RejectedImageError) as error:
        read_header(data, max_pixels=MAX)
    assert str(error.value).startswith(cause)


def test_damaged_pixels_of_a_png_with_sound_metadata_are_called_broken() -> None:
    whole = png_with(chunk(b"tEXt", b"Title\0a photograph"))
    assert np.array_equal(decode(whole, max_pixels=MAX).pixels, PHOTO)
    with pytest.raises(RejectedImageError, match=r"^broken or truncated png: "):
        decode(whole[:-99], max_pixels=MAX)


def test_jpeg_2000_of_more_than_8_bits_is_not_cut() -> None:
    data = bytearray(file_of(PHOTO, "JPEG2000", no_jp2=True))
    size = data.index(b"\xff\x4f\xff\x51")
    data[size + 42] = 11  # 12 bits
    with pytest.raises(RejectedImageError, match=r"^12-bit JPEG 2000, expected 8 bits"):
        decode(bytes(data), max_pixels=MAX, convert=True)


@pytest.mark.parametrize("codec", ["AVIF", "JPEG2000"])
def test_source_that_was_lossy_once_is_read_by_content_and_says_so(codec: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {"exif": exif, "icc_profile": PROFILE} if codec == "AVIF" else {"irreversible": True}
    data = file_of(PHOTO, codec, **options)
    picture = decode(data, max_pixels=MAX)
    assert (picture.codec, picture.converted, picture.jpeg) == (codec.lower(), codec.lower(), None)
    assert picture.size == (24, 32)
    assert np.abs(picture.pixels.astype(int) - np.asarray(PHOTO)).mean() < 8
    assert np.array_equal(decode_rgb(data), picture.pixels)
    if codec == "AVIF":
        assert (picture.orientation, picture.icc) == (6, PROFILE)
    with pytest.raises(RejectedImageError, match=rf"^broken or truncated {codec.lower()}|^not a readable"):
        decode(data[: len(data) // 2], max_pixels=MAX)


@pytest.mark.parametrize("image", [PHOTO, PHOTO.convert("L")])
@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"mct": 0}, {"precinct_size": (128, 128)}])
def test_jpeg_2000_of_the_wavelet_that_loses_nothing_is_like_any_lossless_file(
    image: Image.Image, options: dict[str, Any]
) -> None:
    picture = decode(file_of(image, "JPEG2000", **options), max_pixels=MAX)
    assert (picture.codec, picture.converted) == ("jpeg2000", None)
    assert np.array_equal(picture.pixels.squeeze(), np.asarray(image))
    lossy = decode(file_of(image, "JPEG2000", irreversible=True, **options), max_pixels=MAX)
    assert (lossy.codec, lossy.converted) == ("jpeg2000", "jpeg2000")


def test_one_component_of_the_other_wavelet_makes_a_jpeg_2000_lossy() -> None:
    data = file_of(PHOTO, "JPEG2000", no_jp2=True)
    place = data.index(b"\xff\x5c")  # behind COD, which is for all components
    component = segment(0x53, b"\x01\0" + data[place - 5 : place - 1] + b"\0")
    assert is_reversible(data)
    assert not is_reversible(data[:place] + component + data[place:])


def test_gif_is_a_palette_image() -> None:
    data = file_of(PHOTO.quantize(16), "GIF")
    with pytest.raises(RejectedImageError, match=r"^palette image, .*; add --convert true"):
        decode(data, max_pixels=MAX)
    picture = decode(data, max_pixels=MAX, convert=True)
    assert np.array_equal(picture.pixels, PHOTO.quantize(16).convert("RGB"))


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(99)
PLUGINS = {
    "heif": ("pillow_heif", (HEIC,)),
    "jxl": ("pillow_jxl", (b"\xff\x0a" + bytes(99), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99))),
}


@pytest.mark.parametrize("extra", PLUGINS)
def test_format_whose_package_is_missing_names_the_extra(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, files = PLUGINS[extra]
    monkeypatch.setitem(sys.modules, package, None)
    for data in files:
        with pytest.raises(
            RejectedImageError, match=rf"which needs pillow-.*: pip install -e '\.\[{extra}\]'"
        ):
            decode(data, max_pixels=MAX)


@pytest.mark.parametrize("extra", PLUGINS)
def test_format_of_an_installed_package_is_read_and_its_damage_is_told(extra: str) -> None:
    package, files = PLUGINS[extra]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    for data in files:
        with pytest.raises(RejectedImageError, match="not a readable image"):
            decode(data, max_pixels=MAX)
    picture = decode(written(extra), max_pixels=MAX)
    assert (picture.codec, picture.converted, picture.size) == (extra, extra, (24, 32))
    assert np.abs(picture.pixels.astype(int) - np.asarray(PHOTO)).max() < 8


def written(extra: str) -> bytes:
    """The photograph in a format that only a package writes."""
    out = BytesIO()
    if extra == "heif":
        import pillow_heif

        pillow_heif.from_pillow(PHOTO).save(out, quality=-1, chroma=444)
        return out.getvalue()
    import pillow_jxl

    encoder = pillow_jxl.Encoder(
        mode="RGB",
        lossless=True,
        quality=0.0,
        decoding_speed=0,
        effort=3,
        use_container=True,
        use_original_profile=True,
    )
    return bytes(encoder(PHOTO.tobytes(), *PHOTO.size, jpeg_encode=False, exif=None, jumb=None, xmp=None))
