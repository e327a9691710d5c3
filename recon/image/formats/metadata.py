"""Exchanges the metadata of a JPEG that change how its pixels look; the compressed data stay as they are."""

from io import BytesIO
from typing import Any

from PIL import Image

from recon.image.formats.segments import SCAN, segments

_JFIF = 0xE0
# Marker and first bytes of EXIF, of XMP (which may hold an orientation too) and of profiles.
_LOOK = ((0xE1, b"Exif\0\0"), (0xE1, b"http://ns.adobe.com/xap/"), (0xE2, b"ICC_PROFILE\0"))


def with_look(data: bytes, **look: Any) -> bytes:
    """Returns a JPEG with other EXIF and another ICC profile in place of its own; without XMP.

    Args:
        data: a JPEG that Pillow reads.
        look: ``exif`` and ``icc_profile``, as Pillow's ``save`` takes them; what is missing is removed.
    """
    out = BytesIO()
    Image.new("L", (8, 8)).save(out, "JPEG", **look)
    wanted = [one for one in _split(out.getvalue())[0] if _is_look(one)]
    headers, scans = _split(data)
    kept = [one for one in headers if not _is_look(one)]
    # JFIF has to be the first segment, where a file has it.
    first = 1 if kept and kept[0][1] == _JFIF else 0
    return b"".join([data[:2], *kept[:first], *wanted, *kept[first:], scans])


def _is_look(segment: bytes) -> bool:
    return any(segment[1] == marker and segment[4:].startswith(name) for marker, name in _LOOK)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """The segments of a JPEG between its first marker and its first scan, and all that follows."""
    headers: list[bytes] = []
    for marker, start, end in segments(data):
        if marker == SCAN:
            return headers, data[start:]
        headers.append(data[start:end])
    raise AssertionError("Pillow reads no JPEG without a scan")
