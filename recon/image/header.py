"""Reads the header of an image file: size, codec and how it was compressed."""

from dataclasses import dataclass

from recon.base.errors import RejectedImageError
from recon.image.jpeg import JpegCoding, jpeg_coding
from recon.image.modes import kind_of
from recon.image.opened import BROKEN, check_whole, codec_of, open_image, orientation_of

# The EXIF of a PNG may come after its pixels, and Pillow decodes the pixels to look there. If the file has
# none of these marks it has no EXIF, and the decoding is saved.
_EXIF_IN_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp", b"tiff:Orientation")


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts about a `recon.image.codec.Picture` that need no decoding."""

    codec: str
    """``jpeg``, ``png``, ``webp``, or another codec."""
    height: int
    width: int
    channels: int
    """1 (grey) or 3, as the image would be decoded."""
    orientation: int | None
    """EXIF orientation 2..8; None if the image is upright."""
    icc: bytes | None
    """The embedded ICC profile."""
    odd_mode: str | None
    """The name of its `recon.image.modes.Kind`, e.g. ``alpha``; None for plain 8-bit RGB or grey."""
    jpeg: JpegCoding | None
    """How the JPEG was compressed; None for other codecs."""


def read_header(data: bytes, *, max_pixels: int) -> Header:
    """Reads the header of an image file; it doesn't decode the pixels, which may be broken.

    Args:
        data: the file's bytes.
        max_pixels: larger images are rejected.

    Raises:
        RejectedImageError: the header is not that of a readable image, or the file has several frames.
    """
    with open_image(data, max_pixels) as image:
        codec = codec_of(image)
        try:
            check_whole(image, data)
            kind = kind_of(image)
            has_exif = codec != "png" or any(mark in data for mark in _EXIF_IN_PNG)
            return Header(
                codec=codec,
                height=image.height,
                width=image.width,
                channels=1 if image.mode == "L" and kind is None else 3,
                orientation=orientation_of(image) if has_exif else None,
                icc=image.info.get("icc_profile"),
                odd_mode=kind.name if kind else None,
                jpeg=jpeg_coding(image) if codec == "jpeg" else None,
            )
        except RejectedImageError:
            raise
        except BROKEN as error:
            raise RejectedImageError(f"broken {codec} header: {error}") from error
