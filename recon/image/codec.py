"""Image bytes in, pixels out, and back: the only module that knows Pillow.

Pixels are uint8 arrays (H, W, C) in the *stored* frame: an EXIF orientation tag is
carried along, never applied. C is 3 for colour and 1 for grey, which stays grey.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.jpeg import JpegCoding, jpeg_coding
from recon.image.opened import (
    _ORIENTATION,
    BROKEN,
    codec_of,
    is_animated,
    odd_mode,
    open_any,
    open_image,
    orientation_of,
)
from recon.image.turbo import decode_plain_jpeg

Pixels = NDArray[np.uint8]

LOADABLE = {"jpeg": "jpg", "png": "png", "webp": "webp"}
"""Codecs that the loader decodes, so that a real image keeps its bytes, by file suffix."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".mpo")
"""File names that count as images, compared in lower case."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded image and what its file says about it."""

    pixels: Pixels
    """(H, W, C) uint8 in the stored frame, C = 1 (grey) or 3."""
    codec: str
    """``jpeg``, ``png``, ``webp``, or another that must be stored anew."""
    orientation: int | None = None
    """EXIF orientation 2..8; None where the image stands upright."""
    icc: bytes | None = None
    """The embedded ICC profile."""
    jpeg: JpegCoding | None = None
    """How the JPEG was compressed; None for other codecs."""
    converted: str | None = None
    """The mode it had before `decode(convert=True)` made 8-bit RGB of it."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def _take_any(height: int, width: int) -> None:
    """There is room for an image of any size."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    convert: bool = False,
    on_size: Callable[[int, int], None] = _take_any,
) -> Picture:
    """Decodes one image file, refusing whatever could not be stored or paired exactly.

    Args:
        data: the file's bytes.
        max_pixels: larger images are refused before a pixel is decoded.
        convert: make 8-bit RGB of CMYK, 16-bit, palette and alpha (over white) images.
        on_size: called with (height, width) before any pixel is decoded; may wait for room.

    Raises:
        RejectedImageError: the bytes are no readable image, or of a kind not accepted.
    """
    with open_image(data, max_pixels) as image:
        mode = odd_mode(image, data)
        if mode and not convert:
            raise RejectedImageError(f"{mode} image, expected 8-bit RGB or grey; add --convert true")
        codec = codec_of(image)
        on_size(image.height, image.width)
        try:
            coding = jpeg_coding(image) if codec == "jpeg" else None
            return Picture(
                pixels=_pixels(image, data, mode),
                codec=codec,
                orientation=orientation_of(image),
                icc=None if mode else image.info.get("icc_profile"),
                jpeg=coding,
                converted=mode,
            )
        except RejectedImageError:
            raise
        except BROKEN as error:
            raise RejectedImageError(f"broken or truncated {codec}: {error}") from error


def decode_rgb(data: bytes) -> Pixels:
    """Decodes a stored member to (H, W, 3) uint8 for training; grey is repeated thrice.

    Raises:
        OSError: the bytes are not a whole image.
    """
    pixels = decode_plain_jpeg(data)
    if pixels is not None:
        return pixels
    with open_any(data) as image:
        image.load()
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def image_size(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """The (height, width) that an image file's header states, without decoding it.

    Raises:
        RejectedImageError: the bytes are no readable image.
    """
    with open_image(data, max_pixels) as image:
        return image.height, image.width


def encode(pixels: Pixels, like: Picture, codec: str) -> bytes:
    """Compresses (H, W, C) uint8 losslessly, or exactly as the JPEG `like` was.

    Args:
        pixels: what to compress.
        like: whose EXIF orientation, ICC profile and JPEG coding the file gets.
        codec: ``png``, ``webp`` (both lossless) or ``jpeg``.

    Raises:
        RejectedImageError: the encoder can't repeat the coding of `like`.
    """
    out = BytesIO()
    extra: dict[str, Any] = {"icc_profile": like.icc}
    if like.orientation:
        exif = Image.Exif()
        exif[_ORIENTATION] = like.orientation
        extra["exif"] = exif.tobytes()
    image = _as_image(pixels)
    if codec == "png":
        image.save(out, "PNG", **extra)
    elif codec == "webp":
        image.save(out, "WEBP", lossless=True, exact=True, **extra)
    else:
        assert codec == "jpeg", codec
        assert like.jpeg is not None, "only a JPEG's coding can be repeated"
        data = _jpeg(image, **extra, **like.jpeg.encoder_options())
        _check_same_coding(data, like.jpeg)
        return data
    return out.getvalue()


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    """The image as JPEG; other threads run meanwhile, since Pillow lets them where it writes to a file."""
    if not hasattr(os, "memfd_create"):  # not on Linux
        out = BytesIO()
        image.save(out, "JPEG", **options)
        return out.getvalue()
    with open(os.memfd_create("jpeg"), "w+b", buffering=0) as file:
        image.save(file, "JPEG", **options)
        file.seek(0)
        return file.read()


def recompress(pixels: Pixels, codec: str, quality: int) -> Pixels:
    """(H, W, 3) uint8 after a lossy compression with Pillow's defaults (4:2:0), as Pillow reads it back.

    Args:
        pixels: (H, W, 3) uint8.
        codec: ``jpeg`` or ``webp``.
        quality: 1..100.
    """
    assert codec in ("jpeg", "webp"), codec
    out = BytesIO()
    # simplejpeg's encoder takes a coarser DCT below quality 96, in half the time: not the same pixels.
    _as_image(pixels).save(out, codec.upper(), quality=quality)
    return decode_rgb(out.getvalue())


def is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP file holds a VP8L bitstream, and none of another kind."""
    chunk = 12  # after RIFF, size, WEBP
    while chunk < len(data) and data[chunk : chunk + 4] != b"VP8L":
        size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
        chunk += 8 + size + size % 2
    return chunk < len(data)


def _pixels(image: Image.Image, data: bytes, mode: str | None) -> Pixels:
    if image.format in ("JPEG", "MPO") and not mode:
        pixels = decode_plain_jpeg(data, keep_grey=True)
        if pixels is not None and pixels.shape[:2] == (image.height, image.width):
            return pixels
    _load(image)
    return _as_rgb(image, mode) if mode else _as_pixels(image)


def _load(image: Image.Image) -> None:
    if is_animated(image):
        raise ValueError("several frames, expected one")
    image.load()


def _as_rgb(image: Image.Image, mode: str) -> Pixels:
    if mode == "16-bit" and image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64) / 257.0
        return np.repeat(np.rint(levels).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if mode in ("alpha", "palette"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _as_pixels(image: Image.Image) -> Pixels:
    pixels: Pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _check_same_coding(data: bytes, expected: JpegCoding) -> None:
    with open_any(data) as image:
        found = jpeg_coding(image)
    if found != expected:
        raise RejectedImageError(
            f"the encoder gives {found.describe()}, expected {expected.describe()}; "
            "pack with --codec lossless-png"
        )
