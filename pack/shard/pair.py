"""A pair as `ShardWriter` takes it."""

from dataclasses import dataclass
from typing import Any

from recon.image.jpeg import JpegCoding


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
