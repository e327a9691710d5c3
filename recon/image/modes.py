"""Tells of which kind a file's pixels are, and turns each kind into 8-bit RGB: one table for all readers.

Packing asks `kind_of`, and refuses what is not plain unless ``--convert`` is given. Training, evaluation,
audit and preview convert by `levels`. So all of them see the same pixels of one file.

Alpha is laid over white. Where it is 0, the colours below it are arbitrary (editors leave black, garbage or a
hidden picture there) and no viewer shows them; white is what viewers of photographs and web pages put behind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.base.rejections import CONVERT
from recon.image.wide import from_12_bits, from_16_bits, has_wide_samples, rawmode_of

_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT, _YCBCR_SUBSAMPLING = 258, 262, 284, 339, 530  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2  # values of photometric, planes and sample format


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of pixels other than 8-bit RGB or grey."""

    name: str
    """As in the index column ``converted`` and in messages."""
    convert: Callable[[Image.Image, bytes], NDArray[np.uint8]] | None = None
    """Makes (H, W, 3) uint8 of an image that is not loaded, and its file; None if no rule is sane."""
    refused: str = ""
    """Why no rule is sane, and what the user can do."""

    @property
    def cause(self) -> str:
        """Why packing rejects an image of this kind."""
        if self.convert is None:
            return f"{self.name} image: {self.refused}"
        return f"{self.name} image, expected 8-bit RGB or grey; {CONVERT}"


class UnconvertedError(RejectedImageError):
    """An image of a kind that would have to be converted, with what its file tells besides.

    Attributes:
        kind: the name of the kind.
        lossy: as `recon.image.codec.Picture.lossy`.
    """

    def __init__(self, kind: Kind, lossy: str | None) -> None:
        super().__init__(kind.cause)
        self.kind, self.lossy = kind.name, lossy


def levels(image: Image.Image, data: bytes) -> NDArray[np.uint8]:
    """Decodes the pixels of an opened file by the rule of its kind.

    Args:
        image: the file, opened, but with its pixels not loaded.
        data: the file's bytes.

    Returns:
        (H, W, 1) for plain 8-bit grey images, (H, W, 3) for all others.

    Raises:
        RejectedImageError: no rule is sane for this kind, or for these values.
        OSError: the pixels are broken; Pillow's decoders let other errors through as well.
    """
    kind = kind_of(image)
    if kind is None:
        pixels = np.asarray(image)
        return pixels[..., None] if pixels.ndim == 2 else pixels
    if kind.convert is None:
        raise RejectedImageError(kind.cause)
    return kind.convert(image, data)


def kind_of(image: Image.Image) -> Kind | None:
    """The kind of an opened file whose pixels are not loaded; None for plain 8-bit RGB or grey."""
    if image.format == "TIFF" and (layout := _misread(image)):
        return Kind(name=layout, refused="Pillow reads other values than it holds; save it as PNG")
    transparent = "transparency" in image.info
    if has_wide_samples(image):
        return _TRANSPARENT_WIDE if transparent else _WIDE
    if rawmode_of(image) == "I;12":
        return _TWELVE
    kind = _BY_MODE.get(image.mode, Kind(name=image.mode, refused=_NO_RULE))
    return _ALPHA if transparent and kind is None else kind


def _by_pillow(image: Image.Image, _data: bytes) -> NDArray[np.uint8]:
    """CMYK without its profile, as (1 - C) (1 - K) and so on; YCbCr of the full range, as in JPEG."""
    return np.asarray(image.convert("RGB"))


def _over_white(image: Image.Image, _data: bytes) -> NDArray[np.uint8]:
    """Lays alpha, or the transparent colours of a palette or of a PNG, over white, rounded."""
    rawmode = rawmode_of(image)
    if rawmode in ("L;2", "L;4") and "transparency" in image.info:
        # Pillow has the file's 2 or 4 bits here, but compares them with pixels that it has scaled to 0..255.
        image.info["transparency"] *= 255 // (2 ** int(rawmode[-1]) - 1)
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _misread(image: Any) -> str | None:
    """A name for a layout of TIFF that Pillow reads as something else without a warning."""
    tags = image.tag_v2
    bits, white_is_zero = max(tags.get(_BITS, (1,))), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if tags.get(_PLANES) == _SEPARATE and (bits != 8 or white_is_zero):
        return f"{bits}-bit TIFF of separate planes"
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        return "signed TIFF"
    if white_is_zero and bits > 8:
        return f"{bits}-bit TIFF whose white is 0"
    if image.mode == "YCbCr" and tags.get(_YCBCR_SUBSAMPLING) != (1, 1):
        return "uncompressed TIFF of subsampled YCbCr"
    return None


_SAVE_AS_RGB = "save it in 8-bit RGB"
_NO_RULE = "no rule makes it 8-bit RGB; " + _SAVE_AS_RGB
_NO_RANGE = "which values are black and white is not stated; scale it and save it in 8 or 16 bits"

_ALPHA = Kind(name="alpha", convert=_over_white)
_PALETTE = Kind(name="palette", convert=_over_white)
_WIDE = Kind(name="16-bit", convert=from_16_bits)
_TRANSPARENT_WIDE = Kind(name="16-bit", refused="with one colour transparent, " + _NO_RULE)
_TWELVE = Kind(name="12-bit", convert=from_12_bits)

_BY_MODE: dict[str, Kind | None] = {
    "L": None,
    "RGB": None,
    "1": Kind(name="1-bit", convert=_over_white),
    "P": _PALETTE,
    "PA": _PALETTE,
    "LA": _ALPHA,
    "La": _ALPHA,
    "RGBA": _ALPHA,
    "RGBa": _ALPHA,
    "CMYK": Kind(name="CMYK", convert=_by_pillow),
    "YCbCr": Kind(name="YCbCr", convert=_by_pillow),
    "LAB": Kind(name="LAB", refused="Pillow's conversion is coarse; " + _SAVE_AS_RGB),
    "I;16": _WIDE,
    "I;16B": _WIDE,
    "I;16L": _WIDE,
    "I": Kind(name="32-bit", refused=_NO_RANGE),
    "F": Kind(name="float", refused=_NO_RANGE),
}
"""By the mode of an opened file. RGBX and HSV are missing: no file that is read here has them."""
