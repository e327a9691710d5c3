"""The columns of a shard's index that reading needs."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from isal.isal_zlib import crc32  # 14 times as fast as zlib's
from numpy.typing import NDArray

from pack.dataset.fakes import more_fakes
from pack.shard.manifest import ShardEntry
from pack.shard.names import fake_name
from pack.shard.schema import HEADERS, HINT_COLUMNS, MASK_FIELD, MEMBERS, field_names


@dataclass(frozen=True, kw_only=True)
class HintPlaces:
    """Where the records of `pack.shard.hints` lie: n rows, one a pair."""

    offsets: NDArray[np.int64]
    """(n,) bytes from the start of the tar, or of the file beside it."""
    sizes: NDArray[np.int64]
    """(n,) bytes."""
    crcs: NDArray[np.uint32]
    """(n,)"""
    beside: bool
    """Whether they lie in a file beside the tar."""

    @property
    def end(self) -> int:
        """Bytes from the start of the tar or file to the end of the last record."""
        return int(self.offsets[-1] + self.sizes[-1])

    def record(self, row: int, data: memoryview, start: int = 0) -> memoryview | None:
        """The record of a pair; None if its CRC-32 is wrong.

        Args:
            row: of the pair.
            data: bytes that hold the record.
            start: the byte of the tar or file where they begin.
        """
        offset = int(self.offsets[row]) - start
        record = data[offset : offset + int(self.sizes[row])]
        return record if crc32(record) == self.crcs[row] else None


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The columns of a shard's index that reading needs; n rows, one a pair, with m members each."""

    entry: ShardEntry
    keys: list[str]
    groups: list[str]
    pair_ids: NDArray[np.uint64]
    """(n,)"""
    members: tuple[str, ...]
    """(m,) real, fake, json, and then what not every dataset has: fake2, fake3, ..., mask."""
    fields: list[tuple[str, ...]]
    """The WebDataset field names of each pair's members: real.jpg, fake.jpg and, where there is one, json;
    then those of further members. The bytes tell how to decode an image; the suffix may be that of another
    codec."""
    offsets: NDArray[np.int64]
    """(n, m) bytes from the tar's start to the payload of each member."""
    sizes: NDArray[np.int64]
    """(n, m) bytes; 0 where an adopted pair has no json."""
    crcs: NDArray[np.uint32]
    """(n, m)"""
    starts: NDArray[np.int64]
    """(n,) bytes from the tar's start to the first payload of each pair, rising."""
    ends: NDArray[np.int64]
    """(n,) bytes from the tar's start to the end of its last payload, which lies before the next pair."""
    hints: "HintPlaces | None"
    """Where the hints of each pair lie; None if there are none."""

    @property
    def hints_inside(self) -> "HintPlaces | None":
        """Where the hints of each pair lie in the tar; None if they do not."""
        return self.hints if self.hints and not self.hints.beside else None

    @property
    def memory(self) -> int:
        """About how many bytes are held."""
        return len(self.keys) * self.row_memory(len(self.members))

    @staticmethod
    def row_memory(members: int) -> int:
        """About how many bytes are held for each pair."""
        return 296 + 20 * members

    @cached_property
    def fake_columns(self) -> tuple[int, ...]:
        """(F,) numbers of the members that are fakes."""
        return tuple(number for number, member in enumerate(self.members) if member.startswith("fake"))

    def columns_with(self, row: int, fake: int | None) -> Iterator[tuple[int, str]]:
        """(number, field) of a pair's members: of all, or of those that are no fakes and of one fake.

        The one fake has the field of a first one.
        """
        for column, field in enumerate(self.fields[row]):
            if fake is None or column not in self.fake_columns:
                yield column, field
            elif column == self.fake_columns[fake]:
                yield column, f"fake.{field.partition('.')[2]}"

    def parts(self, first: int, fakes: NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
        """(start, end) of the bytes that hold pairs from `first` on, each with one of its fakes.

        Args:
            first: the first pair.
            fakes: (n,) which fake of each pair, from 0.
            gap: bytes between two payloads up to which they belong to one part.
        """
        rows = slice(first, first + len(fakes))
        wanted = np.ones((len(fakes), len(self.members)), np.bool_)
        for number, column in enumerate(self.fake_columns):
            wanted[:, column] = fakes == number
        starts, sizes = self.offsets[rows][wanted], self.sizes[rows][wanted]
        if hints := self.hints_inside:
            starts, sizes = np.append(starts, hints.offsets[rows]), np.append(sizes, hints.sizes[rows])
        ends = (starts + sizes)[order := np.argsort(starts)]
        starts = starts[order]
        cuts = np.flatnonzero(starts[1:] - ends[:-1] > gap)
        firsts, lasts = [0, *(cuts + 1)], [*cuts, len(ends) - 1]
        return [(int(starts[one]), int(ends[last])) for one, last in zip(firsts, lasts, strict=True)]

    def near(self, rows: NDArray[np.int64], gap: int) -> list[NDArray[np.int64]]:
        """Splits rows, which rise, where more than `gap` bytes lie between two of them."""
        between = self.starts[rows[1:]] - self.starts[rows[:-1] + 1]
        return np.split(rows, np.flatnonzero(between > gap) + 1)

    def span(self, first: int, count: int) -> tuple[int, int]:
        """(offset, length) of the bytes that hold pairs first..first+count-1."""
        start = int(self.starts[first])
        return start, int(self.ends[first + count - 1]) - start

    def requests(self, most: int, rows: range | None = None) -> Iterator[range]:
        """Runs of neighbouring rows that are read together: up to `most` bytes, or one larger pair.

        Args:
            most: see above.
            rows: which; by default all.
        """
        rows = rows or range(len(self.keys))
        first = rows.start
        for row in rows:
            if row + 1 == rows.stop or self.span(first, row + 2 - first)[1] > most:
                yield range(first, row + 1)
                first = row + 1


def shard_index(entry: ShardEntry, table: pa.Table, *, hints_beside: bool) -> ShardIndex:
    """Takes the columns that reading needs out of the table of a shard's index."""
    more = more_fakes(table)
    has_mask = "mask_offset" in table.column_names and table["mask_offset"].null_count == 0
    mask = ("mask",) if has_mask else ()

    def columns(name: str) -> NDArray[np.int64]:
        own, others = ([_numbers(table[f"{member}_{name}"]) for member in part] for part in (MEMBERS, mask))
        return np.stack([*own, *(_numbers(one.field(name)) for one in more), *others], axis=1)

    @cache  # one tuple for all pairs of these names, not one for each pair
    def fields(real: str, fake: str, json: bool, *further: str) -> tuple[str, ...]:
        return (real, fake, "json", *further) if json else (real, fake)

    has_json = repeat(True, table.num_rows)
    if HEADERS[2] in table.column_names:
        has_json = table[HEADERS[2]].is_valid().to_pylist()
    further = [one.field("field").to_pylist() for one in more] + [repeat(MASK_FIELD) for _ in mask]
    offsets, sizes, hints = columns("offset"), columns("size"), _hints(table, beside=hints_beside)
    return ShardIndex(
        entry=entry,
        keys=table["key"].to_pylist(),
        groups=list(map(sys.intern, table["group"].to_pylist())),
        pair_ids=_numbers(table["pair_id"]),
        members=(*MEMBERS, *(fake_name(number) for number in range(1, len(more) + 1)), *mask),
        fields=list(map(fields, *_image_fields(table), has_json, *further)),
        offsets=offsets,
        sizes=sizes,
        crcs=columns("crc32").astype(np.uint32),
        starts=offsets.min(axis=1),
        ends=(offsets + sizes).max(axis=1) if hints is None or hints_beside else hints.offsets + hints.sizes,
        hints=hints,
    )


def _hints(table: pa.Table, *, beside: bool) -> HintPlaces | None:
    if HINT_COLUMNS[0] not in table.column_names:
        return None
    offsets, sizes, crcs = (_numbers(table[name]) for name in HINT_COLUMNS)
    return HintPlaces(offsets=offsets, sizes=sizes, crcs=crcs, beside=beside)


def _numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of integers, without nulls.

    Pyarrow's `to_numpy` would import pandas, where that is installed, and so does `numpy.asarray`: .3 s and
    30 MB of each worker.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers: NDArray[Any] = np.from_dlpack(whole)
    return numbers


def _image_fields(table: pa.Table) -> tuple[list[str], list[str]]:
    """The names of the real images and of the fakes; ``pairstream/1`` has no columns for them."""
    if "real_field" in table.column_names:
        return table["real_field"].to_pylist(), table["fake_field"].to_pylist()
    codecs = table["real_codec"].to_pylist(), table["fake_codec"].to_pylist()
    named = [field_names(real, fake) for real, fake in zip(*codecs, strict=True)]
    return [real for real, _ in named], [fake for _, fake in named]
