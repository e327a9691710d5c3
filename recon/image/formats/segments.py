"""The segments of a JPEG file (ITU-T T.81, B.1), for all that reads its headers below Pillow."""

from collections.abc import Iterator

SCAN = 0xDA
"""Marker SOS, start of scan: compressed data follow its segment."""

_END = 0xD9  # marker EOI, end of image

Segment = tuple[int, int, int]
"""Marker without its first byte 0xFF; the bytes at which the segment, marker included, begins and ends."""


def segments(data: bytes) -> Iterator[Segment]:
    """Yields the segments of a JPEG, also those between its scans; stops where the file is cut or broken."""
    place = 2  # behind SOI, start of image
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _END:
        marker = data[place + 1]
        if marker == 0xFF:  # any number of 0xFF bytes may come before a marker
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, place, end
        place = _behind_scan(data, end) if marker == SCAN else end


def _behind_scan(data: bytes, place: int) -> int:
    """The next marker behind compressed data, in which 0 or the number of a restart follows each 0xFF."""
    while (place := data.find(0xFF, place)) >= 0 and (place + 1 == len(data) or _is_data(data[place + 1])):
        place += 1
    return place if place >= 0 else len(data)


def _is_data(after: int) -> bool:
    return after == 0 or 0xD0 <= after <= 0xD7
