"""`pack.verify` compares columns, names and JSON with the schema, even where all hashes are right."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect.schema import wrong_record
from pack.inspect.verify import verify
from pack.shard.index import index_bytes, read_index
from pack.shard.manifest import NAME, Manifest, read_manifest
from pack.shard.schema import INDEX_SCHEMA, NEW_COLUMNS, OPTIONAL_SCHEMA, RECORD_DEFAULTS, record_of
from pack.storage import open_store
from recon.base.errors import UserError

SHARD = "shard-000001"
Rows = list[dict[str, Any]]


@pytest.fixture
def dataset(packed: Path, tmp_path: Path) -> Path:
    """A copy of the packed photographs, to be changed."""
    return Path(shutil.copytree(packed, tmp_path / "photos"))


def rows_of(root: Path) -> Rows:
    rows: Rows = read_index((root / f"{SHARD}.parquet").read_bytes()).to_pylist()
    return rows


def sealed(root: Path, rows: Rows, schema: pa.Schema = INDEX_SCHEMA, **changes: Any) -> list[str]:
    """Writes the index of the second shard and a manifest that fits to it; what `verify` finds then."""
    (root / f"{SHARD}.parquet").write_bytes(index_bytes(rows, {}, schema))
    manifest = read_manifest(open_store(str(root)))
    shards = [_entry(root, one) if one.name == SHARD else one for one in manifest.shards]
    (root / NAME).write_text(replace(manifest, shards=tuple(shards), **changes).to_json(), "utf-8")
    return list(verify(open_dataset(str(root))))


def _entry(root: Path, entry: Any) -> Any:
    hashes = [hashlib.sha256((root / f"{SHARD}.{suffix}").read_bytes()) for suffix in ("tar", "parquet")]
    return replace(entry, sha256=hashes[0].hexdigest(), index_sha256=hashes[1].hexdigest())


def test_optional_columns_may_be_there_and_change_no_pair(dataset: Path) -> None:
    before = [replace(pair, hints={}) for pair in iterate_pairs(str(dataset))]
    for part in (list(OPTIONAL_SCHEMA), [OPTIONAL_SCHEMA.field("more_fakes")]):
        assert sealed(dataset, rows_of(dataset), pa.schema([*INDEX_SCHEMA, *part])) == []
        assert [replace(pair, hints={}) for pair in iterate_pairs(str(dataset))] == before


@pytest.mark.parametrize("name", OPTIONAL_SCHEMA.names)
def test_optional_column_of_another_type_is_found(dataset: Path, name: str) -> None:
    schema = pa.schema([*INDEX_SCHEMA, (name, pa.float32())])
    expected = f"column {name} is float, the schema says {OPTIONAL_SCHEMA.field(name).type}"
    rows = [row | {name: None} for row in rows_of(dataset)]
    assert sealed(dataset, rows, schema) == [f"{SHARD}.parquet: {expected}"]


def test_column_that_is_missing_unknown_or_of_another_type_is_found(dataset: Path) -> None:
    columns = [column for column in INDEX_SCHEMA if column.name not in ("real_offset", "jpeg_phase")]
    schema = pa.schema([*columns, ("jpeg_phase", pa.int64()), ("maks_size", pa.int64())])
    assert sealed(dataset, rows_of(dataset), schema) == [
        f"{SHARD}.parquet: column real_offset is missing",
        f"{SHARD}.parquet: column jpeg_phase is int64, the schema says int16",
        f"{SHARD}.parquet: column maks_size is not in the schema of pairstream/2",
    ]


@pytest.mark.parametrize("fields", [None, {"real": "real.png", "fake": "fake.jpg"}])
def test_names_that_are_not_those_of_the_manifest_are_found(
    dataset: Path, fields: dict[str, str] | None
) -> None:
    found = sealed(dataset, rows_of(dataset), fields=fields)
    assert f"{SHARD}.parquet: {_first_other(dataset, fields)}" in found
    assert all("the manifest says" in line for line in found)


def _first_other(root: Path, fields: dict[str, str] | None) -> str:
    """The first row of the second shard that is not named so; the names are real.jpg and fake.jpg."""
    suffix = {"jpeg": "jpg", "png": "png", "webp": "webp"}
    for row in rows_of(root):
        by_codec = f"real.{suffix[row['real_codec']]} and fake.{suffix[row['fake_codec']]}"
        said = " and ".join(fields.values()) if fields else by_codec
        if said != "real.jpg and fake.jpg":
            return f"{row['key']} has real.jpg and fake.jpg, the manifest says {said}"
    raise AssertionError("no such row")


@pytest.mark.parametrize(
    "fields", [{}, {"real": "real.jpg"}, {"real": "jpg", "fake": "fake.jpg"}, "real.jpg"]
)
def test_manifest_with_names_that_no_reader_finds_is_refused(dataset: Path, fields: Any) -> None:
    manifest = read_manifest(open_store(str(dataset)))
    (dataset / NAME).write_text(replace(manifest, fields=fields).to_json(), "utf-8")
    with pytest.raises(UserError, match=r"expected null or names such as real\.jpg and fake\.jpg"):
        read_manifest(open_store(str(dataset)))


def with_json(root: Path, edit: Callable[[bytes], bytes], **changes: Any) -> list[str]:
    """Edits the JSON of a pair without changing its size; all hashes and checksums are then right."""
    rows, path = rows_of(root), root / f"{SHARD}.tar"
    start, size = rows[1]["json_offset"], rows[1]["json_size"]
    tar = bytearray(path.read_bytes())
    text = edit(bytes(tar[start : start + size]))
    assert len(text) == size
    tar[start : start + size] = text
    path.write_bytes(tar)
    rows[1]["json_crc32"] = zlib.crc32(text)
    return sealed(root, rows, **changes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace(b'"tile_x": -1', b'"tile_x": 11'), "has tile_x 11, the index says -1"),
        (lambda text: text.replace(b'"tile_x"', b'"tile_z"'), "has other keys than the schema: ['tile_x', "),
        (
            lambda text: text.replace(b'"converted": ""', b'"converted": 10'),
            "has converted 10, the index says ",
        ),
        (lambda text: b" " * len(text), "is not JSON (Expecting value"),
        (lambda text: b"1" * len(text), "has other keys than the schema: int"),
    ],
)
def test_json_that_differs_from_the_index_is_found(
    dataset: Path, edit: Callable[[bytes], bytes], message: str
) -> None:
    key = rows_of(dataset)[1]["key"]
    [found] = with_json(dataset, edit)
    assert found.startswith(f"{SHARD}.tar: {key}.json: {message}")


def test_json_of_an_older_tar_is_not_compared(dataset: Path) -> None:
    manifest = read_manifest(open_store(str(dataset)))
    other = manifest.provenance | {"upgraded": {"format": "pairstream/1"}}
    assert with_json(dataset, lambda text: b" " * len(text), provenance=other) == []


@pytest.mark.parametrize("value", [None, 1.0, True, "1", 2])
def test_value_of_another_type_in_the_json_is_found(value: Any) -> None:
    expected = record_of("k", {"seed": 1})
    assert list(wrong_record(json.dumps(expected).encode(), expected)) == []
    text = json.dumps(expected | {"seed": value}).encode()
    assert list(wrong_record(text, expected)) == [f"has seed {value!r}, the index says 1"]


def test_defaults_have_the_types_of_their_columns() -> None:
    for name, value in RECORD_DEFAULTS.items():
        assert pa.array([value], INDEX_SCHEMA.field(name).type).to_pylist() == [value]
    assert {"tile_y": -1, "tile_x": -1, "orientation": 1}.items() <= RECORD_DEFAULTS.items()
    rest = {name: value for name, value in RECORD_DEFAULTS.items() if value not in ("", 0)}
    assert rest.keys() == {"tile_y", "tile_x", "orientation", "jpeg_phase"}


def test_manifest_of_the_older_format_has_no_fields() -> None:
    about: dict[str, Any] = {"name": "d", "split": None, "shards": (), "rejected": 0, "provenance": {}}
    assert "fields" not in json.loads(Manifest(**about, format="pairstream/1").to_json())
    assert json.loads(Manifest(**about).to_json())["fields"] is None
    assert set(NEW_COLUMNS) < set(INDEX_SCHEMA.names)
