"""One shard: a plain USTAR WebDataset tar and its Parquet index.

Members of a sample are adjacent: ``KEY.real.EXT``, ``KEY.fake.EXT``, ``KEY.json``. The
index has a row a pair with the offset, size and CRC-32 of every member, so that any run
of pairs is one ranged read, each payload of which can be checked. Tars that others wrote
(`pack.adopt`) may have the members of a sample in any order, among others and under other names;
their index has three columns more.
"""

import hashlib
import json
import tarfile
from io import BytesIO
from tarfile import TarInfo
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32

from pack.names import pair_id
from pack.pairs import Pair
from pack.storage import Store
from pack.tarheader import HEADER
from recon.codec import LOADABLE

MEMBERS = ("real", "fake", "json")
"""The members of a sample, in their order in the tar."""

_PIECE = 16 << 20
_WRITTEN = 1 << 20

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("pair_id", pa.uint64()),
        ("path", pa.string()),
        ("tile_y", pa.int32()),
        ("tile_x", pa.int32()),
        ("group", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("channels", pa.int32()),
        ("real_codec", pa.string()),
        ("fake_codec", pa.string()),
        ("orientation", pa.int32()),
        ("converted", pa.string()),
        ("jpeg_tables", pa.string()),
        ("jpeg_quality", pa.int32()),
        ("jpeg_subsampling", pa.string()),
        ("jpeg_progressive", pa.bool_()),
        ("codec_policy", pa.string()),
        ("autoencoder", pa.string()),
        ("revision", pa.string()),
        ("weights_sha256", pa.string()),
        ("dtype", pa.string()),
        ("posterior", pa.string()),
        ("seed", pa.int64()),
        *[
            (f"{member}_{column}", kind)
            for member in MEMBERS
            for column, kind in (("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32()))
        ],
    ]
)
"""Columns of the index; the offset is that of the payload, in bytes from the tar's start."""

HEADERS = tuple(f"{member}_header" for member in MEMBERS)
"""Columns that only the index of an adopted tar has: the name in the tar header right before each
payload, null where there is no json. (No json has its real's offset, size 0 and CRC 0.)"""

ADOPTED_SCHEMA = pa.schema([*INDEX_SCHEMA, *[(name, pa.string()) for name in HEADERS]])
"""Columns of the index of an adopted tar."""

_INDEX_ONLY = {"key", "pair_id"} | {f"{m}_{c}" for m in MEMBERS for c in ("offset", "size", "crc32")}
RECORD_FIELDS = tuple(name for name in INDEX_SCHEMA.names if name not in _INDEX_ONLY)
"""The columns that ``KEY.json`` repeats."""


class ShardWriter:
    """Writes pairs into a tar, as `webdataset.TarWriter` would, and collects their index rows.

    It does so by the standard library: webdataset imports torch, half a GiB for a process that needs none.

    Args:
        file: an open binary file, written once from start to end.
        dataset: the name that goes into the pair ids.
    """

    def __init__(self, file: BinaryIO, dataset: str) -> None:
        self.sink = _HashingFile(file)
        self.dataset = dataset
        self.rows: list[dict[str, Any]] = []

    def add(self, pair: Pair) -> None:
        """Appends one pair."""
        record = {name: pair.record.get(name) for name in RECORD_FIELDS}
        row: dict[str, Any] = {"key": pair.key, "pair_id": pair_id(self.dataset, pair.key)} | record
        text = json.dumps({"key": pair.key} | record, sort_keys=True, ensure_ascii=False).encode()
        row |= self._add_member(pair.key, "real", f"real.{LOADABLE[pair.real_codec]}", pair.real)
        row |= self._add_member(pair.key, "fake", f"fake.{LOADABLE[pair.fake_codec]}", pair.fake)
        row |= self._add_member(pair.key, "json", "json", text)
        self.rows.append(row)

    def _add_member(self, key: str, member: str, field: str, data: bytes) -> dict[str, int]:
        header = TarInfo(f"{key}.{field}")
        header.size, header.mode = len(data), 0o644
        self.sink.write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.sink.size
        self.sink.write(data)
        self.sink.write(bytes(-len(data) % HEADER))
        return {
            f"{member}_offset": offset,
            f"{member}_size": len(data),
            f"{member}_crc32": crc32(data),
        }

    def close(self) -> tuple[int, str]:
        """Ends the tar; returns its (bytes, sha256)."""
        end = self.sink.size + 2 * tarfile.BLOCKSIZE  # two empty headers
        self.sink.write(bytes(end + -end % tarfile.RECORDSIZE - self.sink.size))
        self.sink.flush()
        return self.sink.size, self.sink.sha256.hexdigest()


class _HashingFile:
    """Passes writes on in pieces of a MiB, counting and hashing them.

    At every small write the interpreter would pass to a thread that encodes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._piece = bytearray()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._piece += data
        if len(self._piece) >= _WRITTEN:
            self.flush()

    def flush(self) -> None:
        piece, self._piece = self._piece, bytearray()
        self.sha256.update(piece)
        self.file.write(piece)


def index_bytes(
    rows: list[dict[str, Any]], facts: dict[str, Any], columns: pa.Schema = INDEX_SCHEMA
) -> bytes:
    """The Parquet file of a shard's index.

    Args:
        rows: one dict a pair with the columns of `columns`.
        facts: what a resumed run needs to know of the finished shard, kept as file metadata.
        columns: `INDEX_SCHEMA`, or `ADOPTED_SCHEMA`.
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
    """The facts that `index_bytes` kept."""
    metadata = pq.read_schema(BytesIO(data)).metadata or {}
    facts: dict[str, Any] = json.loads(metadata.get(b"pairstream", b"{}"))
    return facts


def read_index(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The index table; raises `pyarrow.ArrowInvalid` where the bytes are no Parquet file."""
    file = pq.ParquetFile(pa.BufferReader(data))  # six times as fast as read_table on 1,000 rows
    return file.read(columns=columns, use_threads=False)
