"""Opens an image file without decoding pixels, and tells its codec, frames and orientation."""

import struct
import zlib
from contextlib import suppress
from io import BytesIO

from PIL import (  # the formats of `READABLE`; each plugin registers itself in `Image.OPEN` on import
    BmpImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from recon.base.errors import RejectedImageError

READABLE = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Formats that `decode` opens (JPEG includes MPO); Pillow's other plugins never read a user's file."""

_PREFIX = 16  # bytes; as many as Pillow itself passes to a plugin's check of the format
_ORIENTATION = 0x0112  # number of the EXIF tag

BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
"""Exceptions that Pillow raises for broken files."""


class PillowLimitError(OSError):
    """A plugin of Pillow refused an image that exceeds the process's `PIL.Image.MAX_IMAGE_PIXELS`."""


def open_any(data: bytes) -> Image.Image:
    """Opens an image file by its header, like `PIL.Image.open` but without Pillow's limit on pixels.

    Pillow's limit is a global variable that belongs to the user's process. It is neither changed nor used,
    because `open_image` has its own limit.

    Raises:
        UnidentifiedImageError: the bytes have none of the `READABLE` formats.
        PillowLimitError: a WebP exceeds twice Pillow's limit (by default about 179 megapixels).
    """
    for name in READABLE:
        factory, accepts = Image.OPEN[name]
        taken = accepts is None or accepts(data[:_PREFIX])
        if not taken or isinstance(taken, str):  # a text names what Pillow lacks to read it
            continue
        # The exceptions by which `PIL.Image.open` learns that a file has another format.
        with suppress(SyntaxError, IndexError, TypeError, struct.error):
            try:
                image: Image.Image = factory(BytesIO(data), "")
            except Image.DecompressionBombError as error:  # since Pillow 13, its WebP plugin checks the limit
                raise PillowLimitError(f"{error}; raise PIL.Image.MAX_IMAGE_PIXELS") from error
            return image
    raise UnidentifiedImageError(f"cannot identify an image of {', '.join(READABLE)}")


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Opens an image file by its header; no pixel is decoded.

    Raises:
        RejectedImageError: the bytes are no readable image, or the image has more than `max_pixels`.
    """
    if not data:
        raise RejectedImageError("zero bytes")
    try:
        image = open_any(data)
    except PillowLimitError as error:
        raise RejectedImageError(str(error)) from error
    except BROKEN as error:
        raise RejectedImageError(f"not a readable image ({', '.join(READABLE)})") from error
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height}"
        raise RejectedImageError(f"{size} exceeds max_pixels={max_pixels}; raise --max_pixels")
    return image


def codec_of(image: Image.Image) -> str:
    """Returns the codec of an opened file, as in `Picture.codec`."""
    return {"MPO": "jpeg"}.get(str(image.format), str(image.format).lower())


def is_animated(image: Image.Image) -> bool:
    """Whether an opened file holds several frames; of an MPO only the first picture is used."""
    return getattr(image, "n_frames", 1) > 1 and image.format != "MPO"


def orientation_of(image: Image.Image) -> int | None:
    """Returns the EXIF orientation 2..8 of an opened file; None if the image is upright."""
    value = image.getexif().get(_ORIENTATION)
    return value if value in range(2, 9) else None
