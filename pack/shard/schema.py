"""One shard: a plain USTAR WebDataset tar and its Parquet index.

The members of a sample are adjacent: ``KEY.real.EXT``, ``KEY.fake.EXT``, ``KEY.json``. The index has one
row per pair, with offset, size and CRC-32 of every member. Therefore one ranged read gets any number of
adjacent pairs, and each payload can be checked. In tars that others wrote (`pack.adopt.adopt`), the members
of a sample may have any order and name, with other members between them; their index has three more columns.
"""

import pyarrow as pa

MEMBERS = ("real", "fake", "json")
"""The members of a sample, in their order in the tar."""

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
"""Columns of the index; an offset is that of a payload, in bytes from the start of the tar."""

HEADERS = tuple(f"{member}_header" for member in MEMBERS)
"""Columns that only the index of an adopted tar has: the name in the tar header right before each payload,
null if there is no json. (A missing json has the offset of the real image, size 0 and CRC 0.)"""

ADOPTED_SCHEMA = pa.schema([*INDEX_SCHEMA, *[(name, pa.string()) for name in HEADERS]])
"""Columns of the index of an adopted tar."""

_INDEX_ONLY = {"key", "pair_id"} | {f"{m}_{c}" for m in MEMBERS for c in ("offset", "size", "crc32")}

RECORD_FIELDS = tuple(name for name in INDEX_SCHEMA.names if name not in _INDEX_ONLY)
"""The columns that ``KEY.json`` repeats."""
