"""Reads how a JPEG file was compressed, to compress another image in the same way."""

import hashlib
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from recon.base.errors import RejectedImageError
from recon.image.formats.causes import odd_jpeg
from recon.image.formats.segments import SCAN, segments

Table = tuple[int, ...]

SUBSAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2), "4:4:0": (1, 2), "4:1:1": (4, 1)}
"""Chroma subsamplings that can be written: how many samples across and down become one."""

_PILLOWS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}  # those that Pillow's encoder can write, by its numbers

_ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)  # markers SOF9 to SOF15; 0xCC is no frame


@dataclass(frozen=True, kw_only=True)
class JpegCoding:
    """Quantisation tables, chroma subsampling and kind of one JPEG file."""

    tables: tuple[Table, ...]
    """The 64 quantisation steps of each component, in component order."""
    subsampling: str
    """``4:4:4``, ``4:2:2``, ``4:2:0``, ``grey``, or, for another kind, its name or sampling factors.

    Named by its effect: the factors 2x2,1x2,1x2 of Y, Cb, Cr are ``4:2:2``, because the planes have the
    sizes, blocks and decoded pixels of 2x1,1x1,1x1. Only the headers of two such files differ."""
    progressive: bool
    """True for progressive, False for baseline and sequential files."""
    colour: str = "ycc"
    """``ycc``, ``grey``, or ``rgb`` if the components are stored without a colour transform."""
    oddity: str | None = None
    """Another reason why it can't be written: ``arithmetic coding``, ``tables between its scans``."""

    @property
    def tables_hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the tables, in component order."""
        return _facts(self.tables)[0]

    @property
    def quality(self) -> int:
        """The IJG quality 1..100 whose luma table is nearest (L1 distance) to the luma table of this file."""
        return _facts(self.tables)[1]

    @property
    def written_by_planes(self) -> bool:
        """Whether `recon.image.jpeg_write` must put the file together; Pillow can't write the subsampling."""
        return self.colour == "ycc" and self.subsampling not in _PILLOWS

    def encoder_options(self) -> dict[str, Any]:
        """Returns the options of Pillow's ``save`` that give this coding, or that of its planes.

        Raises:
            RejectedImageError: this coding can't be written.
        """
        if self.oddity:
            raise RejectedImageError(
                f"JPEG with {self.oddity} can't be matched; pack with --codec lossless-png"
            )
        if self.colour == "rgb" and self.subsampling != "4:4:4":
            raise RejectedImageError(
                "JPEG stored as subsampled RGB can't be matched; pack with --codec lossless-png"
            )
        if max(map(max, self.tables)) > 255:
            raise RejectedImageError(
                "JPEG with 16-bit tables can't be matched; pack with --codec lossless-png"
            )
        options: dict[str, Any] = {
            "qtables": [list(table) for table in self._distinct_tables()],
            "progressive": self.progressive,
        }
        if self.colour != "ycc":
            return options | ({"keep_rgb": True} if self.colour == "rgb" else {})
        if self.subsampling not in SUBSAMPLINGS:
            raise RejectedImageError(
                f"JPEG chroma subsampling {self.subsampling} can't be matched, expected one of "
                f"{', '.join(SUBSAMPLINGS)}; pack with --codec lossless-png"
            )
        return options | {"subsampling": _PILLOWS.get(self.subsampling)}

    def _distinct_tables(self) -> tuple[Table, ...]:
        """Returns the tables without repetitions of the last one."""
        # Pillow's encoder uses the last table that it gets for all components after it.
        kept = len(self.tables)
        while kept > 1 and self.tables[kept - 1] == self.tables[kept - 2]:
            kept -= 1
        return self.tables[:kept]

    def describe(self) -> str:
        """Returns a phrase for messages, e.g. ``tables 0123456789abcdef (quality 90), 4:2:0, baseline``."""
        kind = "progressive" if self.progressive else "baseline"
        return f"tables {self.tables_hash} (quality {self.quality}), {self.subsampling}, {kind}"


def jpeg_coding(image: Image.Image) -> JpegCoding:
    """Reads the coding of an opened JPEG (of an MPO: its first picture), before its pixels are loaded.

    Raises:
        RejectedImageError: a quantisation table is missing before the first scan.
    """
    assert isinstance(image, JpegImageFile), image.format
    layers: list[tuple[Any, int, int, int]] = image.layer
    factors = [(h, v) for _, h, v, _ in layers]
    try:
        tables = tuple(tuple(image.quantization[table]) for *_, table in layers)
    except KeyError as error:
        cause = odd_jpeg(_file_of(image)) or "JPEG without all its quantisation tables before its first scan"
        raise RejectedImageError(cause) from error
    return JpegCoding(
        tables=tables,
        subsampling=_subsampling(factors),
        progressive=bool(image.info.get("progressive", 0)),
        colour=_colour(image, [bytes([name]) if isinstance(name, int) else name for name, *_ in layers]),
        oddity=jpeg_oddity(_file_of(image), components=len(layers)),
    )


def _file_of(image: JpegImageFile) -> bytes:
    assert image.fp is not None, "the coding is read before the pixels"
    position = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(position)
    return data


def jpeg_oddity(data: bytes, components: int) -> str | None:
    """Returns ``arithmetic coding``, ``tables between its scans`` or None; Pillow reports neither.

    Args:
        data: a JPEG file with a complete header.
        components: number of components of its frame.
    """
    place = len(data)
    for marker, start, _ in segments(data):
        if marker in _ARITHMETIC:
            return "arithmetic coding"
        if marker == SCAN:
            place = start
            break
    if data[place + 4 : place + 5] == bytes([components]) and not _is_progressive(data, place):
        return None  # the first scan has all the data, so there are no later scans
    # In compressed data a 0xFF byte is followed by 0 or a restart marker. So the bytes found here (EOI, end
    # of image, and DQT, quantisation tables) can't be compressed data.
    end = data.find(b"\xff\xd9", place)
    late = data.find(b"\xff\xdb", place, end if end >= 0 else len(data))
    return "tables between its scans" if late >= 0 else None


def _is_progressive(data: bytes, scan: int) -> bool:
    """Whether the scan whose marker is at `scan` leaves coefficients to later scans."""
    # Its header ends with the first coefficient, the last one, and the bit positions: 0, 63 and 0 mean all.
    length = int.from_bytes(data[scan + 2 : scan + 4], "big")
    return data[scan + 2 + length - 3 : scan + 2 + length] != b"\x00\x3f\x00"


@cache
def standard_coding(quality: int, *, grey: bool) -> JpegCoding:
    """Returns libjpeg's standard coding of a quality 1..100: baseline, and 4:2:0 unless `grey`."""
    out = BytesIO()
    # 16x16 is the smallest image without padding in 4:2:0; its pixels don't matter.
    Image.new("L" if grey else "RGB", (16, 16)).save(out, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(out) as image:
        return jpeg_coding(image)


def _subsampling(factors: list[tuple[int, int]]) -> str:
    if len(factors) == 1:
        return "grey"
    # Only the ratios have an effect: 2x2,1x2,1x2 halves chroma across, as 2x1,1x1,1x1 does.
    common_h, common_v = (math.gcd(*sizes) for sizes in zip(*factors, strict=True))
    (luma_h, luma_v), *chroma = ((h // common_h, v // common_v) for h, v in factors)
    if chroma == [(1, 1), (1, 1)]:
        known = {ratio: name for name, ratio in SUBSAMPLINGS.items()}
        return known.get((luma_h, luma_v), f"{luma_h}x{luma_v}")
    return ",".join(f"{h}x{v}" for h, v in [(luma_h, luma_v), *chroma])


def _colour(image: JpegImageFile, names: list[Any]) -> str:
    if len(names) == 1:
        return "grey"
    stored_rgb = image.info.get("adobe_transform") == 0 or names == [b"R", b"G", b"B"]
    return "rgb" if stored_rgb else "ycc"


@lru_cache(maxsize=1024)  # many photographs share the tables of few cameras and editors
def _facts(tables: tuple[Table, ...]) -> tuple[str, int]:
    """Returns the hash of the tables and the nearest quality."""
    digest = hashlib.sha256(np.array(tables, "<u2").tobytes()).hexdigest()[:16]
    distance = np.abs(_standard_tables() - np.array(tables[0])).sum(axis=1)
    return digest, int(distance.argmin()) + 1


@cache
def _standard_tables() -> NDArray[np.int64]:
    """Returns the (100, 64) luma tables that libjpeg's encoder writes for qualities 1..100."""
    tables = []
    for quality in range(1, 101):
        out = BytesIO()
        Image.new("L", (8, 8)).save(out, "JPEG", quality=quality)
        with Image.open(out) as image:
            assert isinstance(image, JpegImageFile)
            tables.append(list(image.quantization[0]))
    return np.array(tables)
