"""Datasets whose indexes or hints were written again."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pack.dataset.dataset import Dataset
from pack.dataset.pairs import StoredPair, sound
from pack.shard.hints import Hint, HintFile
from pack.shard.index import index_bytes, read_index
from pack.shard.manifest import HINTED, NAME, read_manifest
from pack.shard.names import hints_name
from pack.shard.pair import member_columns
from pack.shard.schema import INDEX_SCHEMA, OPTIONAL_SCHEMA, hinted
from pack.storage import open_store

Row = dict[str, Any]
Column = pa.Field | tuple[str, pa.DataType]


def hinted_pairs(root: Path | str) -> list[StoredPair]:
    """All pairs of a dataset with their hints."""
    dataset = Dataset(str(root), hints=True)
    shards = enumerate(dataset.manifest.shards)
    return [sound(pair) for shard, one in shards for pair in dataset.read_block(shard, 0, one.pairs)]


def optional(*names: str) -> list[pa.Field]:
    """Columns that an index may have."""
    return [OPTIONAL_SCHEMA.field(name) for name in names]


def rewritten(root: Path, change: Callable[[Row], Row], columns: list[Column]) -> Path:
    """Changes the rows of all indexes, which then have these columns besides the usual ones; returns `root`.

    The manifest fits to them. The hints stay where they are, but nothing names them.
    """
    schema = pa.schema([*INDEX_SCHEMA, *columns])

    def changed(_: str, rows: list[Row]) -> tuple[list[Row], pa.Schema]:
        return [change(row) for row in rows], schema

    return _with_indexes(root, changed, hints=False)


def unhinted(root: Path, *more: Column) -> Path:
    """Takes the hints out of a dataset, as if an older version had packed it; returns `root`."""
    for path in root.glob("*.hints"):
        path.unlink()
    return rewritten(root, lambda row: row, list(more))


def with_hints(root: Path, hints_of: Callable[[Row], Sequence[Hint]], *more: Column) -> Path:
    """Gives each pair these hints in a file beside its tar, in place of its own; returns `root`."""

    def changed(name: str, rows: list[Row]) -> tuple[list[Row], pa.Schema]:
        file = HintFile()
        placed = [row | member_columns("hints", file.add(hints_of(row))) for row in rows]
        (root / hints_name(name)).write_bytes(file.to_bytes())
        return placed, hinted(pa.schema([*INDEX_SCHEMA, *more]))

    return _with_indexes(root, changed, hints=True)


def _with_indexes(
    root: Path, change: Callable[[str, list[Row]], tuple[list[Row], pa.Schema]], *, hints: bool
) -> Path:
    manifest = read_manifest(open_store(str(root)))
    shards = []
    for entry in manifest.shards:
        path = root / f"{entry.name}.parquet"
        rows, schema = change(entry.name, read_index(path.read_bytes()).to_pylist())
        path.write_bytes(index_bytes(rows, {}, schema))
        shards.append(replace(entry, index_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    provenance = {name: value for name, value in manifest.provenance.items() if name != HINTED}
    provenance |= {HINTED: "beside"} if hints else {}
    after = replace(manifest, shards=tuple(shards), provenance=provenance)
    (root / NAME).write_text(after.to_json(), "utf-8")
    return root
