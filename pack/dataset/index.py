"""The columns of a shard's index that reading needs."""

import sys
from dataclasses import dataclass
from functools import cache
from itertools import repeat

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pack.shard.manifest import ShardEntry
from pack.shard.schema import HEADERS, MEMBERS, field_names


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The columns of a shard's index that reading needs; n rows, one a pair."""

    entry: ShardEntry
    keys: list[str]
    groups: list[str]
    pair_ids: NDArray[np.uint64]
    """(n,)"""
    fields: list[tuple[str, ...]]
    """The WebDataset field names of each pair's members: real.jpg, fake.jpg and, where there is one, json.
    The bytes tell how to decode an image; the suffix may be that of another codec."""
    offsets: NDArray[np.int64]
    """(n, 3) bytes from the tar's start to the payload of real, fake and json."""
    sizes: NDArray[np.int64]
    """(n, 3) bytes; 0 where an adopted pair has no json."""
    crcs: NDArray[np.uint32]
    """(n, 3)"""
    starts: NDArray[np.int64]
    """(n,) bytes from the tar's start to the first payload of each pair, rising."""
    ends: NDArray[np.int64]
    """(n,) bytes from the tar's start to the end of its last payload, which lies before the next pair."""

    @property
    def memory(self) -> int:
        """About how many bytes are held."""
        return len(self.keys) * 336

    def span(self, first: int, count: int) -> tuple[int, int]:
        """(offset, length) of the bytes that hold pairs first..first+count-1."""
        start = int(self.starts[first])
        return start, int(self.ends[first + count - 1]) - start


def shard_index(entry: ShardEntry, table: pa.Table) -> ShardIndex:
    """Takes the columns that reading needs out of the table of a shard's index."""

    def columns(name: str) -> NDArray[np.int64]:
        return np.stack([table[f"{member}_{name}"].to_numpy() for member in MEMBERS], axis=1)

    @cache  # one tuple for all pairs of these names, not one for each pair
    def fields(real: str, fake: str, json: bool) -> tuple[str, ...]:
        return (real, fake, "json") if json else (real, fake)

    has_json = repeat(True, table.num_rows)
    if HEADERS[2] in table.column_names:
        has_json = table[HEADERS[2]].is_valid().to_pylist()
    offsets, sizes = columns("offset"), columns("size")
    return ShardIndex(
        entry=entry,
        keys=table["key"].to_pylist(),
        groups=list(map(sys.intern, table["group"].to_pylist())),
        pair_ids=table["pair_id"].to_numpy(),
        fields=list(map(fields, *_image_fields(table), has_json)),
        offsets=offsets,
        sizes=sizes,
        crcs=columns("crc32").astype(np.uint32),
        starts=offsets.min(axis=1),
        ends=(offsets + sizes).max(axis=1),
    )


def _image_fields(table: pa.Table) -> tuple[list[str], list[str]]:
    """The names of the real images and of the fakes; ``pairstream/1`` has no columns for them."""
    if "real_field" in table.column_names:
        return table["real_field"].to_pylist(), table["fake_field"].to_pylist()
    codecs = table["real_codec"].to_pylist(), table["fake_codec"].to_pylist()
    named = [field_names(real, fake) for real, fake in zip(*codecs, strict=True)]
    return [real for real, _ in named], [fake for _, fake in named]
