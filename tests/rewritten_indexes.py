"""Datasets whose indexes were written again with other columns."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pack.shard.index import index_bytes, read_index
from pack.shard.manifest import NAME, read_manifest
from pack.shard.schema import INDEX_SCHEMA, OPTIONAL_SCHEMA
from pack.storage import open_store

Row = dict[str, Any]
Column = pa.Field | tuple[str, pa.DataType]


def optional(*names: str) -> list[pa.Field]:
    """Columns that an index may have."""
    return [OPTIONAL_SCHEMA.field(name) for name in names]


def rewritten(root: Path, change: Callable[[Row], Row], columns: list[Column]) -> Path:
    """Changes the rows of all indexes, which then have these columns besides the usual ones; returns `root`.

    The manifest fits to them.
    """
    manifest = read_manifest(open_store(str(root)))
    schema = pa.schema([*INDEX_SCHEMA, *columns])
    shards = []
    for entry in manifest.shards:
        path = root / f"{entry.name}.parquet"
        rows = read_index(path.read_bytes()).to_pylist()
        path.write_bytes(index_bytes([change(row) for row in rows], {}, schema))
        shards.append(replace(entry, index_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    (root / NAME).write_text(replace(manifest, shards=tuple(shards)).to_json(), "utf-8")
    return root


def unhinted(root: Path, *more: Column) -> Path:
    """Takes the hints out of a dataset, as if an older version had packed it; returns `root`."""
    return rewritten(root, lambda row: row, list(more))
