"""Opens an image file without decoding pixels, and tells its codec, frames and orientation."""

import struct
import zlib
from contextlib import suppress
from io import BytesIO

from PIL import (  # the formats of `READABLE`; each plugin registers itself in `Image.OPEN` on import
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from recon.base.errors import RejectedImageError
from recon.image.formats.causes import cause_of
from recon.image.formats.jpeg2000 import bits_of, is_reversible
from recon.image.formats.plugins import MissingPluginError, open_by_plugin

READABLE = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000")
"""Formats that `decode` opens (JPEG includes MPO); Pillow's other plugins never read a user's file.
`recon.image.formats.plugins` adds HEIF and JPEG XL."""

LOSSY_ONCE = ("avif", "jpeg2000", "heif", "jxl")
"""Codecs of sources that are stored as PNG although they (nearly always) lost something: the traces of that
compression are in the real image alone. The index has them as ``converted``. See `lossy_once`."""

_PREFIX = 16  # bytes; as many as Pillow itself passes to a plugin's check of the format
_ORIENTATION = 0x0112  # number of the EXIF tag

BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error),
    RuntimeError,  # of pillow-heif
)
"""Exceptions that Pillow and its plugins raise for broken files."""


class PillowLimitError(OSError):
    """A plugin of Pillow refused an image that exceeds the process's `PIL.Image.MAX_IMAGE_PIXELS`."""


def open_any(data: bytes) -> Image.Image:
    """Opens an image file by its header, like `PIL.Image.open` but without Pillow's limit on pixels.

    Pillow's limit is a global variable that belongs to the user's process. It is neither changed nor used,
    because `open_image` has its own limit.

    Raises:
        UnidentifiedImageError: the bytes have none of the `READABLE` formats.
        PillowLimitError: a WebP exceeds twice Pillow's limit (by default about 179 megapixels).
        MissingPluginError: a HEIF or JPEG XL file, and the package that reads it is not installed.
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
    if (other := open_by_plugin(data)) is not None:
        return other
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
    except (PillowLimitError, MissingPluginError) as error:
        raise RejectedImageError(str(error)) from error
    except BROKEN as error:
        raise RejectedImageError(cause_of(data) or f"not a readable image ({', '.join(READABLE)})") from error
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


def check_whole(image: Image.Image, data: bytes) -> None:
    """Refuses a file of which Pillow would read a part: one of several frames, or 8 of more bits.

    Raises:
        RejectedImageError: the file is of such a kind, or too broken to tell.
    """
    codec = codec_of(image)
    try:
        frames = image.n_frames if is_animated(image) else 1  # type: ignore[attr-defined]
    except BROKEN as error:
        raise RejectedImageError(f"broken {codec} header: {error}") from error
    if frames > 1:
        what = "pages" if codec == "tiff" else "frames"
        raise RejectedImageError(
            f"several {what} ({frames} in this {codec}), expected one; save each in a file of its own"
        )
    bits = bits_of(data) if codec == "jpeg2000" and not image.mode.startswith("I") else 8
    if bits > 8:
        raise RejectedImageError(f"{bits}-bit JPEG 2000, expected 8 bits; save it as 8-bit PNG")


def lossy_once(codec: str, data: bytes) -> str | None:
    """The codec of a file if it is one of `LOSSY_ONCE`; None for a JPEG 2000 of the reversible wavelet."""
    return codec if codec in LOSSY_ONCE and not (codec == "jpeg2000" and is_reversible(data)) else None


def orientation_of(image: Image.Image) -> int | None:
    """Returns the EXIF orientation 2..8 of an opened file; None if the image is upright.

    Raises:
        RejectedImageError: the EXIF data are damaged.
    """
    if image.format == "PNG":
        image.load()  # its EXIF may come behind its pixels, whose faults are no faults of the EXIF
    try:
        value = image.getexif().get(_ORIENTATION)
    except BROKEN as error:
        raise RejectedImageError(
            f"damaged EXIF data ({error}), so its orientation isn't known; save the image without metadata"
        ) from error
    return value if value in range(2, 9) else None
