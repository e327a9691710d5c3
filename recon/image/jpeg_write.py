"""Writes an image as a JPEG of a given coding: tables, chroma subsampling, kind."""

import os
import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recon.image.formats.segments import SCAN, segments
from recon.image.jpeg import SUBSAMPLINGS, JpegCoding

_ROWS = 256
_TABLES, _HUFFMAN, _BASELINE, _PROGRESSIVE = 0xDB, 0xC4, 0xC0, 0xC2  # markers, after 0xFF


def write_jpeg(pixels: NDArray[np.uint8], coding: JpegCoding, extra: dict[str, Any]) -> bytes:
    """Compresses (H, W, C) uint8; the coefficients are those of libjpeg-turbo's exact DCT.

    Args:
        pixels: C is 1 for grey, else 3.
        coding: how to compress.
        extra: Pillow's options for what else is in the file: ``icc_profile``, ``exif``.

    Raises:
        RejectedImageError: JPEGs of this coding can't be written.
    """
    options = coding.encoder_options()
    if coding.written_by_planes:
        return _by_planes(pixels, coding, extra)
    return pillows_jpeg(pixels, **extra, **options)


def pillows_jpeg(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    """Pillow's JPEG, with other threads running meanwhile."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    # Pillow releases the GIL only when it writes to a file with a descriptor, not to a BytesIO.
    if not hasattr(os, "memfd_create"):  # only Linux has files in memory
        out = BytesIO()
        image.save(out, "JPEG", **options)
        return out.getvalue()
    with open(os.memfd_create("jpeg"), "w+b", buffering=0) as file:
        image.save(file, "JPEG", **options)
        file.seek(0)
        return file.read()


def _by_planes(pixels: NDArray[np.uint8], coding: JpegCoding, extra: dict[str, Any]) -> bytes:
    """A JPEG of a subsampling that Pillow can't write, such as 4:4:0, made of a grey JPEG for each component.

    A JPEG may have a scan for each of its components (ITU-T T.81, A.2.2). The bytes of such a scan are those
    of a grey JPEG of that component. So grey files are taken apart and put together under a common header.
    """
    across, down = SUBSAMPLINGS[coding.subsampling]
    luma, *chroma = _ycc(pixels)
    planes = [luma, *(_subsampled(plane, across, down) for plane in chroma)]
    files = [
        pillows_jpeg(plane[..., None], qtables=[list(table)], progressive=coding.progressive)
        for plane, table in zip(planes, coding.tables, strict=True)
    ]
    height, width = pixels.shape[:2]
    frame = struct.pack(">BHHB", 8, height, width, 3)
    for number in range(3):
        frame += bytes([number + 1, (across << 4 | down) if number == 0 else 0x11, number])
    parts = [_header(extra)]
    parts += [_segment(_TABLES, bytes([number, *_table(data)])) for number, data in enumerate(files)]
    parts += [_segment(_PROGRESSIVE if coding.progressive else _BASELINE, frame)]
    parts += [_scans(data, number + 1) for number, data in enumerate(files)]
    return b"".join(parts) + b"\xff\xd9"


def _header(extra: dict[str, Any]) -> bytes:
    """Start of image, JFIF, EXIF and ICC, as Pillow writes them."""
    data = pillows_jpeg(np.zeros((1, 1, 3), np.uint8), **extra)
    return data[: next(start for marker, start, _ in segments(data) if marker == _TABLES)]


def _table(data: bytes) -> bytes:
    """The 64 bytes of the one quantisation table, in the file's order."""
    start, end = next((start, end) for marker, start, end in segments(data) if marker == _TABLES)
    return data[start + 5 : end]


def _scans(data: bytes, component: int) -> bytes:
    """The Huffman tables and scans of a grey JPEG, for the component with this number."""
    found = list(segments(data))
    out = bytearray(data[next(start for marker, start, _ in found if marker == _HUFFMAN) : -2])
    shift = len(data) - 2 - len(out)
    for marker, start, _ in found:
        if marker == SCAN:
            out[start - shift + 5] = component
    return bytes(out)


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _ycc(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Y, Cb and Cr, (3, H, W), as libjpeg computes them (jccolor.c); some of Pillow's differ by a level."""
    planes = np.empty((3, *pixels.shape[:2]), np.uint8)
    centre = (128 << 16) - 1
    for top in range(0, len(pixels), _ROWS):  # in parts, because 32 bits a sample would need much memory
        red, green, blue = np.moveaxis(pixels[top : top + _ROWS].astype(np.int32), 2, 0)
        sums = (
            19595 * red + 38470 * green + 7471 * blue,
            -11059 * red - 21709 * green + 32768 * blue + centre,
            32768 * red - 27439 * green - 5329 * blue + centre,
        )
        for plane, sum_HW in zip(planes, sums, strict=True):
            plane[top : top + _ROWS] = (sum_HW + (1 << 15)) >> 16
    return planes


def _subsampled(plane_HW: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """Means of `across` x `down` samples, rounded, as libjpeg's int_downsample (jcsample.c).

    libjpeg repeats the last column before this, up to whole blocks of 8 means, and the last row after it.
    """
    height, width = plane_HW.shape
    padded = np.pad(plane_HW, ((0, -height % down), (0, -width % (8 * across))), "edge")
    cells = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)
    sums: NDArray[np.int32] = cells.sum((1, 3), np.int32)
    return ((sums + across * down // 2) // (across * down)).astype(np.uint8)
