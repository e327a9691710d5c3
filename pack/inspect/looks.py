"""Compares what the headers of a pair's two images say about the look of their pixels."""

import hashlib
import sys
from collections.abc import Iterator

from recon.base.errors import RejectedImageError
from recon.image.header import Header, read_header

NOT_OURS = ("keep", "adopted")
"""Codec policies under which the reconstruction's bytes, and so its header, are somebody else's."""


def unlike(real: bytes, fake: bytes) -> Iterator[str]:
    """Yields a line for each fact by which a reader could show the two images of a pair differently.

    These facts are the size, the EXIF orientation, by which many readers turn an image, the ICC profile, by
    which some change its colours, and of two JPEGs the coding. A JPEG's density and comments change no pixel.
    """
    try:
        one, other = (read_header(data, max_pixels=sys.maxsize) for data in (real, fake))
    except RejectedImageError as error:
        yield f"an image can't be read: {error}"
        return
    for what, expected, found in (
        ("size", _size(one), _size(other)),
        ("EXIF orientation", one.orientation or 1, other.orientation or 1),
        ("ICC profile", _profile(one), _profile(other)),
    ):
        if expected != found:
            yield f"{what} of the real image {expected}, of its reconstruction {found}"
    if one.jpeg and other.jpeg and one.jpeg != other.jpeg:
        yield f"JPEG of the real image {one.jpeg.describe()}, of its reconstruction {other.jpeg.describe()}"


def _size(header: Header) -> str:
    return f"{header.width}x{header.height}"


def _profile(header: Header) -> str:
    return hashlib.sha256(header.icc).hexdigest()[:16] if header.icc else "none"
