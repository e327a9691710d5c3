"""The index of a shard as a Parquet file, and the hash of its tar."""

import hashlib
import json
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pack.shard.manifest import ADDED, UPGRADED, ShardEntry
from pack.shard.schema import INDEX_SCHEMA
from pack.storage import Store
from recon.base.errors import UserError

_REPLACING = {ADDED: "python -m pack.index --entries", UPGRADED: "python -m pack.upgrade"}
_RESTORE = "run python -m pack.verify, then restore or repack it"
_PIECE = 16 << 20  # bytes of one read


def index_bytes(
    rows: list[dict[str, Any]], facts: dict[str, Any], columns: pa.Schema = INDEX_SCHEMA
) -> bytes:
    """The Parquet file of a shard's index.

    Args:
        rows: one dict per pair, with the columns of `columns`.
        facts: what a resumed run needs to know about the finished shard; stored as file metadata.
        columns: of `columns_of`, or `ADOPTED_SCHEMA`.
    """
    schema = columns.with_metadata({"pairstream": json.dumps(facts, sort_keys=True)})
    out = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), out, compression="zstd")
    return out.getvalue()


def tar_sha256(store: Store, name: str) -> str:
    """The SHA-256 of a shard's tar, read in pieces of 16 MiB."""
    sha256, size = hashlib.sha256(), store.size(f"{name}.tar")
    for start in range(0, size, _PIECE):
        sha256.update(store.read_range(f"{name}.tar", start, min(_PIECE, size - start)))
    return sha256.hexdigest()


def index_facts(data: bytes) -> dict[str, Any]:
    """The facts that `index_bytes` has stored."""
    metadata = pq.read_schema(BytesIO(data)).metadata or {}
    facts: dict[str, Any] = json.loads(metadata.get(b"pairstream", b"{}"))
    return facts


def known_facts(data: bytes) -> dict[str, Any] | None:
    """The same, or None for bytes that are no Parquet file, or a damaged one."""
    try:
        return index_facts(data)
    except (ValueError, OSError):  # pyarrow raises both: its ArrowInvalid is a ValueError
        return None


def replaces(data: bytes, fact: str, entry: ShardEntry) -> bool:
    """Whether an earlier run, which was stopped, wrote this index in place of the one in the manifest.

    Args:
        data: the index.
        fact: the name of the fact that holds the SHA-256 of the index before.
        entry: of the shard in the manifest.
    """
    return (known_facts(data) or {}).get(fact) == entry.index_sha256


def unlike_manifest(data: bytes, entry: ShardEntry, url: str) -> UserError:
    """The error that an index is not the one in the manifest; says so if a command was stopped on its way.

    Args:
        data: the index.
        entry: of its shard in the manifest.
        url: of the dataset.
    """
    begun = [command for fact, command in _REPLACING.items() if replaces(data, fact, entry)]
    cure = f"{begun[0]} {url} was stopped; give it again" if begun else _RESTORE
    return UserError(f"{url}/{entry.name}.parquet differs from the manifest (sha256); {cure}")


def read_index(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The index table; raises `pyarrow.ArrowInvalid` if the bytes are no Parquet file."""
    # pq.read_table takes six times as long for 1,000 rows.
    file = pq.ParquetFile(pa.BufferReader(data))
    return file.read(columns=columns, use_threads=False)
