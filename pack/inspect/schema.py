"""Compares a shard's index and the JSON of its pairs with the schema of their format."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pack.shard.hints import equal_pieces, read_hints
from pack.shard.manifest import OLD_FORMAT, Manifest
from pack.shard.pair import hint_of
from pack.shard.schema import (
    ADOPTED_SCHEMA,
    HINT_COLUMNS,
    INDEX_SCHEMA,
    MORE_FAKES,
    NEW_COLUMNS,
    OPTIONAL_SCHEMA,
    RECORD_FIELDS,
    field_names,
    further_field,
    record_of,
)


def wrong_columns(found: pa.Schema, manifest: Manifest) -> Iterator[str]:
    """Yields a line for each column that is missing, unknown or of another type."""
    schema = ADOPTED_SCHEMA if "adopted" in manifest.provenance else INDEX_SCHEMA
    needed = {column.name: column.type for column in schema}
    allowed = {column.name: column.type for column in OPTIONAL_SCHEMA}
    if manifest.fakes > 1:
        needed[MORE_FAKES] = allowed[MORE_FAKES]
    if manifest.masks:
        needed |= {name: kind for name, kind in allowed.items() if name.startswith("mask_")}
    if manifest.format == OLD_FORMAT:
        needed = {name: kind for name, kind in needed.items() if name not in NEW_COLUMNS}
        allowed = {name: allowed[name] for name in HINT_COLUMNS}
    for name in sorted(needed.keys() - set(found.names)):
        yield f"column {name} is missing"
    for column in found:
        kind = needed.get(column.name) or allowed.get(column.name)
        if kind is None:
            yield f"column {column.name} is not in the schema of {manifest.format}"
        elif column.type != kind:
            yield f"column {column.name} is {column.type}, the schema says {kind}"


def wrong_hints(record: memoryview, images: Mapping[str, bytes]) -> Iterator[str]:
    """Yields a line for each hint that is not what packing computes of the image's file.

    Args:
        record: of the pair; its CRC-32 was right.
        images: the files of ``real``, ``fake``, ``fake2`` and so on.
    """
    found = read_hints(record)
    if len(found) != len(images):
        yield f"hints of {len(found)} images, expected of {', '.join(images)}"
        return
    for hint, (name, data) in zip(found, images.items(), strict=True):
        expected = hint_of(data)
        equal = {
            "entries": hint.entries == expected.entries,
            "colours": hint.colours == expected.colours,
            "pieces": equal_pieces(hint.pieces, expected.pieces, len(data)),
        }
        for part in (part for part, right in equal.items() if not right):
            yield f"the {part} of {name} are not those of the image"


def wrong_fields(table: pa.Table, manifest: Manifest) -> Iterator[str]:
    """Yields a line for the first pair whose images are not named as the manifest says."""
    if manifest.format == OLD_FORMAT:
        return
    names = ("key", "real_field", "fake_field", "real_codec", "fake_codec")
    columns = (table[name].to_pylist() for name in names)
    for key, real, fake, real_codec, fake_codec in zip(*columns, strict=True):
        expected = field_names(real_codec, fake_codec, manifest.fields)
        if (real, fake) != expected:
            yield f"{key} has {real} and {fake}, the manifest says {' and '.join(expected)}"
            return
    if manifest.fakes > 1:
        yield from _wrong_more(table, manifest)


def _wrong_more(table: pa.Table, manifest: Manifest) -> Iterator[str]:
    for key, more in zip(table["key"].to_pylist(), table[MORE_FAKES].to_pylist(), strict=True):
        found = [one["field"] for one in more or []]
        codecs = [one["codec"] for one in more or []]
        expected = [further_field(number, codec, manifest.fields) for number, codec in enumerate(codecs, 1)]
        if found != expected or len(found) != manifest.fakes - 1:
            yield f"{key} has {found} after its first fake, the manifest says {manifest.fakes - 1} more"
            return


def records(table: pa.Table, rows: range, manifest: Manifest) -> Sequence[dict[str, Any] | None]:
    """What the JSON of some pairs must hold; None for JSON of others, or of the older format."""
    if not manifest.has_records:
        return [None] * len(rows)
    more = [MORE_FAKES] if manifest.fakes > 1 else []
    columns = table.select(["key", *RECORD_FIELDS, *more]).slice(rows.start, len(rows))
    return [record_of(row["key"], row) for row in columns.to_pylist()]


def wrong_record(text: bytes, expected: dict[str, Any]) -> Iterator[str]:
    """Yields a line if the JSON of a pair differs from its row in the index."""
    try:
        found = json.loads(text)
    except ValueError as error:
        yield f"is not JSON ({error})"
        return
    if not isinstance(found, dict) or found.keys() != expected.keys():
        other = sorted(found.keys() ^ expected.keys()) if isinstance(found, dict) else type(found).__name__
        yield f"has other keys than the schema: {other}"
        return
    for name, value in expected.items():
        if found[name] != value or type(found[name]) is not type(value):  # 1, 1.0 and true are equal
            yield f"has {name} {found[name]!r}, the index says {value!r}"
