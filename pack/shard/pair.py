"""A pair as the writer takes it."""

from dataclasses import dataclass
from typing import Any

from recon.image.jpeg import JpegCoding


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The three members of a sample and what the index says of it."""

    key: str
    real: bytes
    real_codec: str
    fake: bytes
    fake_codec: str
    record: dict[str, Any]
    """The columns of the index row, but for offsets, sizes and checksums."""


def jpeg_columns(jpeg: JpegCoding | None) -> dict[str, Any]:
    """The columns of the index on how a JPEG was compressed; null for other codecs."""
    return {
        "jpeg_tables": jpeg and jpeg.tables_hash,
        "jpeg_quality": jpeg and jpeg.quality,
        "jpeg_subsampling": jpeg and jpeg.subsampling,
        "jpeg_progressive": jpeg and jpeg.progressive,
    }
