"""All entry points of a JPEG; the loader reads no more of them than a part needs."""

from recon.jpeg.coefficients import Entries, UndecodedError
from recon.jpeg.entries import open_entries
from recon.jpeg.frame import Frame


def read_entries(packed: bytes, frame: Frame) -> Entries | None:
    """The entry points from their bytes; None if these are damaged, or belong to another image."""
    opened = open_entries(packed, frame)
    try:
        return opened.until((0, 0, frame.height, frame.width)) if opened else None
    except UndecodedError:
        return None
