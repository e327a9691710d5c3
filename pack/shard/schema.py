"""The schema of ``pairstream/2``: a shard's index, its optional columns, and the JSON of each pair.

A shard is a plain USTAR WebDataset tar and its Parquet index. The members of a sample are adjacent:
``KEY.real.EXT``, ``KEY.fake.EXT``, then ``KEY.fake2.EXT`` and so on in a dataset of several fakes,
``KEY.json``, and ``.KEY.hints``, which other readers ignore. The index has one row per pair, with offset,
size and CRC-32 of every member. Therefore one ranged read gets any number of adjacent pairs, and each payload
can be checked.

Readers of plain WebDataset take their columns from the first samples. Therefore the names of the two images
are the same in every sample of a dataset, whatever their bytes (`pack.plan.fields`), and so are the keys and
types in KEY.json. ``pairstream/1`` named each member by its codec and had nulls in KEY.json.

In tars that others wrote (`pack.adopt.adopt`), the members of a sample may have any order and name, with
other members between them; their index has three more columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pack.shard.manifest import OLD_FORMAT
from pack.shard.names import fake_name
from recon.base.errors import UserError
from recon.image.codec import LOADABLE

MEMBERS = ("real", "fake", "json")
"""The members of a sample, in their order in the tar."""

MASK_FIELD = "mask.png"
"""The name of a mask in its sample."""

NEW_COLUMNS = ("real_field", "fake_field", "jpeg_phase")
"""The columns that ``pairstream/1`` lacks."""


_PLACE = [("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())]
_MAKER = [
    *((name, pa.string()) for name in ("autoencoder", "revision", "weights_sha256", "dtype", "posterior")),
    ("seed", pa.int64()),
]

MAKER = tuple(name for name, _ in _MAKER)
"""The columns that say what made a reconstruction."""

MORE_FAKES = "more_fakes"
"""The column of the further reconstructions, which only datasets of several fakes have."""


_FAKE = [("field", pa.string()), ("codec", pa.string()), *_MAKER, *_PLACE]

_FORMER = ("_entries", "_colours", "_palette")  # how columns end that once held hints in the index itself


def _place(member: str) -> list[tuple[str, pa.DataType]]:
    """Where a payload lies: bytes from the start of its file, bytes, and its CRC-32."""
    return [(f"{member}_{column}", kind) for column, kind in _PLACE]


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
        *_MAKER,
        *[column for member in MEMBERS for column in _place(member)],
        ("real_field", pa.string()),
        ("fake_field", pa.string()),
        ("jpeg_phase", pa.int16()),
    ]
)
"""Columns of the index.

* ``real_field``, ``fake_field``: the names under which readers get the images, such as ``real.jpg``. The
  codec is in ``real_codec`` and ``fake_codec``; the suffix of a field may be another.
* ``jpeg_phase``: where the 8x8 grid of an earlier JPEG compression lies in the real image, as 8*row + column;
  -1 if none was found, null if nobody looked. It is 0 where the source file is a JPEG: whatever older grids
  lie in its pixels, its own begins at the first pixel (and a tile begins at a multiple of 8). Otherwise
  `recon.image.jpeg_grid` looks for it in the pixels, and finds none in very small images. What packing does
  itself by ``codec_policy`` both does not count: both images of a pair get that.
"""

OPTIONAL_SCHEMA = pa.schema(
    [
        *_place("mask"),
        (MORE_FAKES, pa.list_(pa.struct(_FAKE))),
        *_place("hints"),
    ]
)
"""Columns that an index may have in addition; ``pack.verify`` checks their types.

* ``mask_*``: the place of ``KEY.mask.png``, a grey image that marks which pixels were changed. All samples
  of a dataset have one, or none has.
* ``more_fakes``: the reconstructions after ``fake``, in their order in the tar, each with its own maker and
  place. All samples of a dataset have equally many.
* ``hints_*``: the place of the pair's hints: `pack.shard.hints`. They lie in the tar, or, where the manifest
  says so, in a file beside it. Readers decode whole images where an index lacks these columns;
  ``python -m pack.index --entries`` adds them.
"""

HINT_COLUMNS = tuple(name for name, _ in _place("hints"))
"""The columns of the place of the hints."""

HEADERS = tuple(f"{member}_header" for member in MEMBERS)
"""Columns that only the index of an adopted tar has: the name in the tar header right before each payload,
null if there is no json. (A missing json has the offset of the real image, size 0 and CRC 0.)"""

ADOPTED_SCHEMA = pa.schema([*INDEX_SCHEMA, *[(name, pa.string()) for name in HEADERS]])
"""Columns of the index of an adopted tar."""

_INDEX_ONLY = {"key", "pair_id", "real_field", "fake_field"} | {
    name for member in MEMBERS for name, _ in _place(member)
}

RECORD_FIELDS = tuple(name for name in INDEX_SCHEMA.names if name not in _INDEX_ONLY)
"""The columns that ``KEY.json`` repeats."""

_UNKNOWN = {"tile_y": -1, "tile_x": -1, "orientation": 1, "jpeg_phase": -1}


def refuse_new(columns: Iterable[str], form: str, url: str) -> None:
    """Refuses columns that a dataset of this format does not have.

    Raises:
        UserError: see above; it names the command that adds them.
    """
    lacking = [name for name in columns if name in NEW_COLUMNS]
    if lacking and form == OLD_FORMAT:
        raise UserError(
            f"{url} is of {OLD_FORMAT}, which has no column {lacking[0]}; "
            f"run python -m pack.upgrade {url}, or pack it again"
        )


def _default(column: pa.Field) -> str | int | bool:
    """What stands in ``KEY.json`` where the index has null."""
    if pa.types.is_string(column.type):
        return ""
    return False if pa.types.is_boolean(column.type) else _UNKNOWN.get(column.name, 0)


RECORD_DEFAULTS = {name: _default(INDEX_SCHEMA.field(name)) for name in RECORD_FIELDS}
"""What stands in ``KEY.json`` where the index has null: "", 0, false; -1 for the corner of what is no tile
and for a JPEG phase, 1 for the orientation of an upright image."""


def record_of(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``KEY.json``: always the same keys, each with a value of the same type.

    In a dataset of several fakes it has ``more_fakes`` too: the column without the places.

    Args:
        key: of the pair.
        row: its columns; one that is missing or None becomes its default.
    """
    record = {"key": key} | _filled(row, RECORD_FIELDS)
    if row.get(MORE_FAKES):
        record[MORE_FAKES] = [
            {"field": one["field"], "codec": one["codec"]} | _filled(one, MAKER) for one in row[MORE_FAKES]
        ]
    return record


def _filled(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    values = {name: row.get(name) for name in names}
    return {name: RECORD_DEFAULTS[name] if value is None else value for name, value in values.items()}


def field_names(real_codec: str, fake_codec: str, fields: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The names of the two images of a pair: those of the dataset, or else of their codecs: ``real.jpg``."""
    if fields is not None:
        return fields["real"], fields["fake"]
    return f"real.{LOADABLE[real_codec]}", f"fake.{LOADABLE[fake_codec]}"


def further_field(number: int, codec: str, fields: Mapping[str, str] | None = None) -> str:
    """As `field_names`, of a further reconstruction: number 1 is ``fake2``."""
    name = fake_name(number)
    return fields[name] if fields is not None else f"{name}.{LOADABLE[codec]}"


def columns_of(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """The schema of an index with these rows: the optional columns are those that the first row has."""
    optional = [column for column in OPTIONAL_SCHEMA if column.name in rows[0]]
    return pa.schema([*INDEX_SCHEMA, *optional])


def hinted(columns: pa.Schema) -> pa.Schema:
    """The schema of an index with these columns and with the place of hints."""
    newest = {MORE_FAKES: OPTIONAL_SCHEMA.field(MORE_FAKES)}
    kept = [column for column in columns if not column.name.endswith((*_FORMER, *HINT_COLUMNS))]
    columns_now = [newest.get(column.name, column) for column in kept]
    return pa.schema([*columns_now, *map(OPTIONAL_SCHEMA.field, HINT_COLUMNS)])
