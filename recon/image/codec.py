"""Decodes the bytes of an image file to pixels, and encodes pixels to bytes.

Pixels are uint8 arrays (H, W, C) as they are *stored*: an EXIF orientation is kept in `Picture` and in
the encoded file, but the pixels are never rotated by it. C is 3 for colour and 1 for grey images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.formats.causes import cause_of
from recon.image.formats.metadata import with_look
from recon.image.jpeg import JpegCoding, jpeg_coding
from recon.image.jpeg_write import pillows_jpeg, write_jpeg
from recon.image.modes import Kind, UnconvertedError, kind_of, levels
from recon.image.opened import (
    _ORIENTATION,
    BROKEN,
    check_whole,
    codec_of,
    lossy_once,
    open_any,
    open_image,
    orientation_of,
)
from recon.jpeg.turbo import decode_plain_jpeg

Pixels = NDArray[np.uint8]

LOADABLE = {"jpeg": "jpg", "png": "png", "webp": "webp"}
"""File suffix of each codec that the loader decodes; a real image of these codecs keeps its bytes."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".heic", ".heif", ".hif", ".jxl"),
)
"""Suffixes of file names that count as images; names are compared in lower case."""

LOSSY_WEBP = "lossy WebP"
"""In `Picture.lossy`. WebP is stored as it is, but nobody can repeat how it was compressed."""

_LOSSY_IN_TIFF = {"jpeg": "JPEG in TIFF", "tiff_jpeg": "JPEG in TIFF", "webp": "WebP in TIFF"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded image, and facts from its file."""

    pixels: Pixels
    """(H, W, C) uint8 as stored, C = 1 (grey) or 3."""
    codec: str
    """``jpeg``, ``png``, ``webp``, or another codec, whose images must be encoded again."""
    orientation: int | None = None
    """EXIF orientation 2..8; None if the image is upright."""
    icc: bytes | None = None
    """The embedded ICC profile."""
    jpeg: JpegCoding | None = None
    """How the JPEG was compressed; None for other codecs."""
    converted: str | None = None
    """What the stored image can't keep of the file: a codec by `lossy_once`, or else the name of the
    `recon.image.modes.Kind` that was converted to 8-bit RGB; None for all other images."""
    lossy: str | None = None
    """The coding with loss whose traces are in the pixels, e.g. ``JPEG``; None if the file tells of none."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def _take_any(height: int, width: int) -> None:
    """Accepts an image of any size; the default of `decode`."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    convert: bool = False,
    on_size: Callable[[int, int], None] = _take_any,
) -> Picture:
    """Decodes one image file; rejects images that could not be stored or paired exactly.

    Args:
        data: the file's bytes.
        max_pixels: larger images are rejected before a pixel is decoded.
        convert: convert CMYK, 16-bit, palette and alpha (over white) images to 8-bit RGB, as
            `recon.image.modes` says for each kind.
        on_size: called with (height, width) before any pixel is decoded; may block until memory is free.

    Raises:
        RejectedImageError: the bytes are no readable image, or an image of a kind that is not accepted;
            `UnconvertedError` if `convert` would accept it.
    """
    with open_image(data, max_pixels) as image:
        check_whole(image, data)  # first: no option makes one image of several
        kind = kind_of(image)
        if kind and kind.convert and not convert:
            raise UnconvertedError(kind, _lossy(image, data))
        if kind and not kind.convert:
            raise RejectedImageError(kind.cause)
        codec = codec_of(image)
        # Only now, after all checks of the header: a rejected image must not wait for memory.
        on_size(image.height, image.width)
        try:
            # Before the pixels: Pillow closes the file when it has loaded them.
            coding = jpeg_coding(image) if codec == "jpeg" else None
            return Picture(
                pixels=_pixels(image, data, kind),
                codec=codec,
                orientation=orientation_of(image),
                # A converted image is plain RGB, to which its old profile (of CMYK, say) doesn't apply.
                icc=None if kind else image.info.get("icc_profile"),
                jpeg=coding,
                converted=lossy_once(codec, data) or (kind.name if kind else None),
                lossy=_lossy(image, data),
            )
        except RejectedImageError:
            raise
        except BROKEN as error:
            raise RejectedImageError(cause_of(data) or f"broken or truncated {codec}: {error}") from error


def decode_rgb(data: bytes) -> Pixels:
    """Decodes an image of a shard to (H, W, 3) uint8 for training; grey is repeated in three channels.

    The pixels are those of `decode` with `convert`: alpha, for one, is laid over white.

    Raises:
        OSError: the bytes are not a complete image.
        ValueError: several frames, or a kind of pixels that can't be converted.
    """
    pixels = decode_plain_jpeg(data)
    if pixels is not None:
        return pixels
    with open_any(data) as image:
        check_whole(image, data)
        return as_rgb(levels(image, data))


def as_rgb(pixels: Pixels) -> Pixels:
    """Repeats the channel of a grey image; (H, W, 1 or 3) to (H, W, 3)."""
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def image_size(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """Returns the (height, width) from the header of an image file, without decoding its pixels.

    Raises:
        RejectedImageError: the bytes are no readable image.
    """
    with open_image(data, max_pixels) as image:
        return image.height, image.width


def encode(pixels: Pixels, like: Picture, codec: str) -> bytes:
    """Compresses (H, W, C) uint8 losslessly, or as JPEG with the same coding as `like`.

    Args:
        pixels: the image to compress.
        like: the file gets the EXIF orientation, ICC profile and JPEG coding of this picture.
        codec: ``png``, ``webp`` (both lossless) or ``jpeg``.

    Raises:
        RejectedImageError: the encoder can't write the JPEG coding of `like`.
    """
    out = BytesIO()
    extra = _look(like)
    if codec == "png":
        _as_image(pixels).save(out, "PNG", **extra)
    elif codec == "webp":
        _as_image(pixels).save(out, "WEBP", lossless=True, exact=True, **extra)
    else:
        assert codec == "jpeg", codec
        assert like.jpeg is not None, "only a JPEG's coding can be repeated"
        data = write_jpeg(pixels, like.jpeg, extra)
        # Read back, because an encoder may silently write other tables or sampling than it was given.
        _check_same_coding(data, like.jpeg)
        return data
    return out.getvalue()


def with_look_of(data: bytes, like: Picture) -> bytes:
    """Returns a JPEG with the EXIF orientation and ICC profile of `like`; its pixels stay, bit for bit."""
    return with_look(data, **_look(like))


def _look(like: Picture) -> dict[str, Any]:
    """Pillow's options for the metadata that a reconstruction shares with its real image."""
    if not like.orientation:
        return {"icc_profile": like.icc}
    exif = Image.Exif()
    exif[_ORIENTATION] = like.orientation
    return {"icc_profile": like.icc, "exif": exif.tobytes()}


def recompress(pixels: Pixels, codec: str, quality: int, **options: Any) -> Pixels:
    """Compresses (H, W, 3) uint8 with Pillow's defaults (lossy, 4:2:0) and returns the decoded result.

    Args:
        pixels: (H, W, 3) uint8.
        codec: ``jpeg``, ``webp`` or ``avif``.
        quality: 1..100; 0 for WebP and AVIF too.
        **options: other options of Pillow's encoder: ``subsampling`` (not for WebP), ``speed`` for AVIF.

    Raises:
        RejectedImageError: the codec has no images of this size.
    """
    assert codec in ("jpeg", "webp", "avif"), codec
    try:
        data = _lossy_file(pixels, codec, quality=quality, **options)
    except BROKEN as error:
        raise RejectedImageError(
            f"{pixels.shape[1]}x{pixels.shape[0]} can't be compressed as {codec}: {error}"
        ) from error
    return decode_rgb(data)


def _lossy_file(pixels: Pixels, codec: str, **options: Any) -> bytes:
    # Not by simplejpeg: below quality 96 its encoder uses a coarser DCT (in half the time), so pixels differ.
    if codec == "jpeg":
        return pillows_jpeg(pixels, **options)
    if codec == "avif":
        options["max_threads"] = 1  # libavif's bytes depend on the number of its threads
    out = BytesIO()
    _as_image(pixels).save(out, codec.upper(), **options)
    return out.getvalue()


def is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP file holds a lossless (VP8L) bitstream."""
    chunk = 12  # the first chunk comes after "RIFF", the size and "WEBP"
    while chunk < len(data) and data[chunk : chunk + 4] != b"VP8L":
        size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
        chunk += 8 + size + size % 2  # chunks are padded to an even size
    return chunk < len(data)


def _pixels(image: Image.Image, data: bytes, kind: Kind | None) -> Pixels:
    if image.format in ("JPEG", "MPO") and kind is None:
        # The fast way, unless the two libraries read the file differently.
        pixels = decode_plain_jpeg(data, keep_grey=True)
        if pixels is not None and pixels.shape[:2] == (image.height, image.width):
            return pixels
    return levels(image, data)


def _lossy(image: Image.Image, data: bytes) -> str | None:
    if image.format == "TIFF":
        return _LOSSY_IN_TIFF.get(image.info["compression"])
    if image.format == "WEBP":
        return None if is_lossless_webp(data) else LOSSY_WEBP
    return "JPEG" if image.format in ("JPEG", "MPO") else None


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
