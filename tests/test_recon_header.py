"""The header of an image tells what its decoding tells."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from conftest import ORIENTATION, photograph
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.codec import decode
from recon.image.header import read_header


def test_header_of_every_kind_of_photograph_agrees_with_its_decoding(photographs: Path) -> None:
    for path in (one for one in photographs.rglob("*") if one.is_file()):
        data = path.read_bytes()
        header, picture = read_header(data, max_pixels=10**6), decode(data, max_pixels=10**6)
        assert (header.height, header.width, header.channels) == picture.pixels.shape
        assert (header.codec, header.orientation, header.jpeg) == (
            picture.codec,
            picture.orientation,
            picture.jpeg,
        )
        assert header.odd_mode is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_orientation_is_found_where_pillow_finds_it(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    out = io.BytesIO()
    Image.fromarray(photograph(8, 9, 0)).save(out, kind, exif=exif)
    assert read_header(out.getvalue(), max_pixels=100).orientation == 6


def test_orientation_behind_the_pixels_of_a_png_is_found() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    out = io.BytesIO()
    Image.fromarray(photograph(8, 9, 0)).save(out, "PNG")
    chunk = b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = out.getvalue()[:-12] + chunk + out.getvalue()[-12:]  # before IEND
    assert read_header(data, max_pixels=100).orientation == decode(data, max_pixels=100).orientation == 8


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGBA", "alpha"), ("P", "palette"), ("I;16", "16-bit"), ("1", "1-bit"), ("LA", "alpha")],
)
def test_odd_mode_has_the_name_that_packing_rejects_it_by(mode: str, name: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (5, 4)).save(out, "PNG")
    assert read_header(out.getvalue(), max_pixels=100).odd_mode == name
    with pytest.raises(RejectedImageError, match=name):
        decode(out.getvalue(), max_pixels=100)


def test_animation_and_what_is_no_image_are_rejected() -> None:
    out = io.BytesIO()
    frames = [Image.fromarray(photograph(8, 9, number)) for number in range(2)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(RejectedImageError, match="several frames"):
        read_header(out.getvalue(), max_pixels=100)
    for data, message in ((b"", "zero bytes"), (b"text", "not a readable image")):
        with pytest.raises(RejectedImageError, match=message):
            read_header(data, max_pixels=100)
    with pytest.raises(RejectedImageError, match="9x8 exceeds max_pixels=71"):
        read_header(out.getvalue(), max_pixels=71)


def test_pixels_may_be_broken() -> None:
    out = io.BytesIO()
    Image.fromarray(photograph(80, 90, 0)).save(out, "PNG")
    assert read_header(out.getvalue()[:200], max_pixels=10**4).width == 90
