"""Reads samples of more than 8 bits as they are in the file, and rounds them to 8 bits.

Pillow has no colour mode of 16 bits: it drops the low byte of each sample without a warning.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.opened import open_any

_LEAST_TOP = 1 << 14
"""Cameras, scanners and microscopes write 10, 12 or 14 bits into 16, and no header says so. An image whose
largest value is below this is therefore dark, or brighter by a factor of 4 to 64: no rule is sane."""

_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""The end of the raw mode that takes the other byte of a 16-bit sample; N stands for the machine's order."""


def has_wide_samples(image: Any) -> bool:
    """Whether an opened file, not loaded, has unsigned 16-bit samples; Pillow's mode doesn't tell."""
    if image.format == "PPM":  # with its largest value as the decoder's last argument
        arguments = image.tile[0].args
        wide_colour = image.mode == "RGB" and arguments != "RGB" and arguments[-1] > 255
        return bool(image.mode == "I" or wide_colour)
    # I;16 has no third part in a TIFF. BGR;16 of a BMP has 16 bits for the three colours together.
    return rawmode_of(image)[-4:-1] == ";16" or rawmode_of(image) == "I;16"


def rawmode_of(image: Any) -> str:
    """Pillow's name for how the samples lie in an opened file; empty if its codec has none."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def from_12_bits(image: Image.Image, _data: bytes) -> NDArray[np.uint8]:
    """Scales grey 0..4095 to (H, W, 3), rounded to the nearest level."""
    return _grey_as_rgb((np.asarray(image).astype(np.uint32) * 255 + 2047) // 4095)


def from_16_bits(image: Image.Image, data: bytes) -> NDArray[np.uint8]:
    """Scales 0..65535 to (H, W, 3), rounded to the nearest level, with alpha over white.

    Raises:
        RejectedImageError: the values are so small that they may be meant in fewer bits.
    """
    if image.format == "PPM":  # it states its largest value: Pillow rounds colours to 8 bits, and grey to 16
        return np.asarray(image) if image.mode == "RGB" else _grey_as_rgb(_rounded(np.asarray(image)))
    rawmode = "I" if image.mode.startswith("I") else rawmode_of(image)
    high, low = _two_bytes(image, data, rawmode)
    count = {"I": 1, "LA": 1, "CMYK": 4}.get(rawmode.partition(";")[0], 3)  # of colours
    _check_range(high[..., :count], low[..., :count])
    out = np.empty((*high.shape[:2], count), np.uint8)
    for y in range(len(out)):  # by rows: the whole image in 64 bits would need much memory
        values_WC = high[y].astype(np.uint64) << 8 | low[y]
        out[y] = _rounded(_over_white(values_WC[:, :count], values_WC[:, count:], rawmode))
    if count == 4:
        return np.asarray(Image.frombytes("CMYK", out.shape[1::-1], out.tobytes()).convert("RGB"))
    return out if count == 3 else _grey_as_rgb(out[..., 0])


def _two_bytes(image: Image.Image, data: bytes, rawmode: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The high and the low bytes of all samples, each (H, W, C) uint8."""
    if rawmode == "I":
        values = np.asarray(image)[..., None]
        return (values >> 8).astype(np.uint8), (values & 255).astype(np.uint8)
    if rawmode == "LA;16B":  # has no counterpart for the low bytes, but RGBA too has four bytes a pixel
        four = _decoded_as(data, "RGBA")
        return four[..., ::2], four[..., 1::2]
    # RGB;16B takes the first byte of each sample and leaves out the second, RGB;16L takes the second.
    # RGBa would divide the colours by alpha, each byte for itself.
    plain = rawmode.replace("RGBa", "RGBA")
    return _decoded_as(data, plain), _decoded_as(data, plain[:-1] + _OTHER_BYTE[plain[-1]])


def _decoded_as(data: bytes, rawmode: str) -> NDArray[np.uint8]:
    image: Any
    with open_any(data) as image:
        image.tile = [tile._replace(args=_with(rawmode, tile.args)) for tile in image.tile]
        return np.asarray(image)


def _with(rawmode: str, arguments: Any) -> Any:
    return (rawmode, *arguments[1:]) if isinstance(arguments, tuple) else rawmode


def _check_range(high: NDArray[Any], low: NDArray[Any]) -> None:
    if int(high.max()) < _LEAST_TOP >> 8:
        top = int((high.astype(np.uint16) << 8 | low).max())
        raise RejectedImageError(
            f"16-bit image: its largest value is {top}, expected at least {_LEAST_TOP}; it may use fewer "
            "bits than 16, and then white is unknown; scale it to 0..65535 or save it in 8 bits"
        )


def _over_white(colours: NDArray[Any], alpha: NDArray[Any], rawmode: str) -> NDArray[Any]:
    if rawmode.startswith(("LA", "RGBA")):
        colours = (colours * alpha + 65535 * (65535 - alpha) + 32767) // 65535
    if rawmode.startswith("RGBa"):  # the colours have been multiplied by alpha
        colours = (colours + (65535 - alpha)).clip(0, 65535)
    return colours


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    return ((values + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255: white stays white


def _grey_as_rgb(grey_HW: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(grey_HW.astype(np.uint8)[..., None], 3, axis=2)
