"""What an image file says of itself before a pixel is decoded: codec, mode, frames, orientation."""

import struct
import zlib
from contextlib import suppress
from io import BytesIO

from PIL import (  # the formats of `READABLE`; each enters itself in `Image.OPEN`
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
"""What `decode` opens (MPO comes as JPEG); Pillow's other plugins never see a user's bytes."""

_PREFIX = 16  # bytes that tell a format, as many as Pillow looks at
_ORIENTATION = 0x0112

BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
"""What Pillow raises for broken files."""


class PillowLimitError(OSError):
    """An image that a plugin of Pillow refuses for its size, by the limit of the user's process."""


def open_any(data: bytes) -> Image.Image:
    """Opens an image file of any size by its header, as `PIL.Image.open` does, its limit on pixels apart.

    That limit is a global of Pillow's, which belongs to the user's process: it is left as it is, and not
    asked, since `open_image` has one of its own.

    Raises:
        UnidentifiedImageError: none of `READABLE` takes the bytes.
        PillowLimitError: a WebP of more than twice Pillow's limit (some 179 megapixels by default).
    """
    for name in READABLE:
        factory, accepts = Image.OPEN[name]
        taken = accepts is None or accepts(data[:_PREFIX])
        if not taken or isinstance(taken, str):  # a text says what Pillow lacks to read it
            continue
        with suppress(
            SyntaxError, IndexError, TypeError, struct.error
        ):  # not of this format, as Pillow has it
            try:
                image: Image.Image = factory(BytesIO(data), "")
            except Image.DecompressionBombError as error:  # WebP's plugin asks for itself since Pillow 13
                raise PillowLimitError(f"{error}; raise PIL.Image.MAX_IMAGE_PIXELS") from error
            return image
    raise UnidentifiedImageError(f"cannot identify an image of {', '.join(READABLE)}")


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Opens an image file by its header; no pixel is decoded.

    Raises:
        RejectedImageError: the bytes are no readable image, or one of more than `max_pixels`.
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
    """The codec of an opened file, as in `Picture.codec`."""
    return {"MPO": "jpeg"}.get(str(image.format), str(image.format).lower())


def is_animated(image: Image.Image) -> bool:
    """Whether an opened file holds several frames; of an MPO the first picture counts."""
    return getattr(image, "n_frames", 1) > 1 and image.format != "MPO"


def odd_mode(image: Image.Image, data: bytes) -> str | None:
    """Names what keeps an image from being plain 8-bit RGB or grey; None if nothing does."""
    if image.format == "PNG" and data[24] == 16:  # Pillow reads 16-bit RGB as 8-bit, in silence
        return "16-bit"
    if image.mode.startswith(("I", "F")):
        return "16-bit" if image.mode.startswith("I") else "float"
    if image.mode in ("P", "PA", "1"):
        return "palette"
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        return "alpha"
    return None if image.mode in ("L", "RGB") else image.mode


def orientation_of(image: Image.Image) -> int | None:
    """The EXIF orientation 2..8 of an opened file; None where the image stands upright."""
    value = image.getexif().get(_ORIENTATION)
    return value if value in range(2, 9) else None
