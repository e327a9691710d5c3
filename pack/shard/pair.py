"""A pair as `ShardWriter` takes it."""

from dataclasses import dataclass
from typing import Any

from pack.shard.hints import LARGE, Hint, pieces_of
from recon.image.codec import Pixels, as_rgb, decode_rgb
from recon.image.colours import colours_of
from recon.image.jpeg import JpegCoding
from recon.image.opened import BROKEN


@dataclass(frozen=True, kw_only=True)
class Fake:
    """A reconstruction after the first one of its sample."""

    data: bytes
    codec: str
    maker: dict[str, Any]
    """The columns of `pack.shard.schema.MAKER`."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The images of a sample with their codecs, and the facts that the index holds about it."""

    key: str
    real: bytes
    real_codec: str
    fake: bytes
    fake_codec: str
    record: dict[str, Any]
    """The columns of the index row, except offsets, sizes and checksums."""
    more: tuple[Fake, ...] = ()
    """The reconstructions after the first."""
    mask: bytes | None = None
    """A grey PNG that marks which pixels were changed; all pairs of a dataset have one, or none has."""
    hints: tuple[Hint, ...] = ()
    """Of the real image, of the fake and of each in `more`; all pairs of a dataset have them, or none has."""
    traces: str | None = None
    """The coding with loss whose traces only the real image has, unless a column of the index tells it."""

    @property
    def images(self) -> tuple[bytes, ...]:
        """The files of all images."""
        mask = () if self.mask is None else (self.mask,)
        return (self.real, self.fake, *(fake.data for fake in self.more), *mask)


def jpeg_columns(jpeg: JpegCoding | None) -> dict[str, Any]:
    """The index columns that say how a JPEG was compressed; null for other codecs."""
    return {
        "jpeg_tables": jpeg and jpeg.tables_hash,
        "jpeg_quality": jpeg and jpeg.quality,
        "jpeg_subsampling": jpeg and jpeg.subsampling,
        "jpeg_progressive": jpeg and jpeg.progressive,
    }


def member_columns(member: str, own: dict[str, Any]) -> dict[str, Any]:
    """The index columns of a member: ``real_offset`` for its ``offset``."""
    return {f"{member}_{name}": value for name, value in own.items()}


def hint_of(data: bytes, pixels: Pixels | None = None) -> Hint:
    """What helps to decode an image in part.

    Args:
        data: the image's file, as it is stored.
        pixels: (H, W, 1 or 3), what it decodes to; None if the caller has not decoded it.
    """
    try:
        pixels_HW3 = decode_rgb(data) if pixels is None else as_rgb(pixels)
    except BROKEN:  # in a tar of others; training will list it
        return Hint(entries=None, colours=None)
    colours = colours_of(pixels_HW3).packed()
    if not data.startswith(b"\xff\xd8"):
        return Hint(entries=None, colours=colours)
    # Only for JPEGs: with its compiler it takes half a second and 130 MB of memory.
    from recon.jpeg.entries import entries_of
    from recon.jpeg.frame import bare_header, read_frame

    entries = entries_of(data, pixels_HW3)
    frame = read_frame(data) if entries and len(data) >= LARGE else None
    pieces = pieces_of(data, frame.scan, bare_header(data)) if frame else None
    return Hint(entries=entries, colours=colours, pieces=pieces)
