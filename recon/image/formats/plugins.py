"""Opens the formats that Pillow leaves to other packages: HEIF (``.heic``) and JPEG XL, where installed.

Nothing is registered with Pillow, whose table of formats belongs to the user's process.
"""

from io import BytesIO
from typing import Any

from PIL import Image

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")  # a bare codestream, and one in a container


class MissingPluginError(OSError):
    """The image has a format that only a package which is not installed can read."""


def open_by_plugin(data: bytes) -> Image.Image | None:
    """Opens a HEIF or JPEG XL file; None if the file is neither.

    A JPEG XL is decoded at once, whatever its size, because its plugin knows no other way.

    Raises:
        MissingPluginError: the package that reads the format is not installed.
        OSError: the file is broken.
    """
    factory = _factory(data)
    if factory is None:
        return None
    try:
        image: Image.Image = factory(BytesIO(data), "")
        return image
    except Exception as error:  # the packages have errors of their own
        raise OSError(str(error)) from error


def _factory(data: bytes) -> Any:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            raise _missing("HEIF (HEIC)", "pillow-heif", "heif") from error
        return HeifImageFile
    if data.startswith(_JXL):
        try:
            from pillow_jxl.JpegXLImagePlugin import JXLImageFile
        except ImportError as error:
            raise _missing("JPEG XL", "pillow-jxl-plugin", "jxl") from error
        return JXLImageFile
    return None


def _missing(kind: str, package: str, extra: str) -> MissingPluginError:
    return MissingPluginError(f"{kind} image, which needs {package}: pip install -e '.[{extra}]'")
