"""The format on disk, read raw: plain USTAR, true offsets and checksums, WebDataset's own reader."""

import gc
import hashlib
import json
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pack.base.names import make_key, pair_id
from pack.shard.index import index_bytes, index_facts, known_facts, read_index
from pack.shard.manifest import read_manifest
from pack.shard.pair import Pair
from pack.shard.schema import INDEX_SCHEMA, MEMBERS, OPTIONAL_SCHEMA, RECORD_DEFAULTS, RECORD_FIELDS
from pack.shard.writer import ShardWriter
from pack.storage import open_store
from recon.image.codec import decode

HEADER = 512
Member = tuple[str, bytes, int]  # name, payload, its offset


def raw_members(tar: bytes) -> Iterator[Member]:
    """Walks the tar by the POSIX layout alone; fails on whatever is no plain USTAR file member."""
    position = 0
    while any(header := tar[position : position + HEADER]):
        assert header[257:265] == b"ustar\x0000"
        assert header[156:157] == b"0", "a typeflag of PAX, GNU or no regular file"
        assert header[345:500] == bytes(155), "a name prefix"
        assert int(header[136:147], 8) == int(header[108:115], 8) == int(header[116:123], 8) == 0
        name, size = header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8)
        checksum = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
        assert int(header[148:154], 8) == checksum
        payload = position + HEADER
        yield name, tar[payload : payload + size], payload
        position = payload + -(-size // HEADER) * HEADER
        assert not any(tar[payload + size : position]), "padding that is not zero"
    assert not any(tar[position:])
    assert len(tar) - position >= 2 * HEADER


def shards(root: Path) -> list[tuple[list[Member], list[dict[str, Any]]]]:
    """The members and index rows of every shard."""
    return [
        (
            list(raw_members((root / f"{entry.name}.tar").read_bytes())),
            read_index((root / f"{entry.name}.parquet").read_bytes()).to_pylist(),
        )
        for entry in read_manifest(open_store(str(root))).shards
    ]


def pairs(root: Path) -> Iterator[tuple[dict[str, Any], list[Member]]]:
    """Each index row with the four members at its place in the tar."""
    for members, rows in shards(root):
        assert len(members) == 4 * len(rows)
        for number, row in enumerate(rows):
            yield row, members[4 * number : 4 * number + 4]


def test_members_of_a_pair_are_adjacent_in_the_order_real_fake_json_hints(packed: Path) -> None:
    assert read_manifest(open_store(str(packed))).fields == {"real": "real.jpg", "fake": "fake.jpg"}
    for row, members in pairs(packed):
        names = [name for name, _, _ in members]
        key = row["key"]
        assert names == [f"{key}.real.jpg", f"{key}.fake.jpg", f"{key}.json", f".{key}.hints"]
        assert (row["real_field"], row["fake_field"]) == ("real.jpg", "fake.jpg")


def test_real_images_keep_their_bytes(packed: Path, photographs: Path) -> None:
    stored = {row["path"]: members[0][1] for row, members in pairs(packed)}
    files = [path for path in photographs.rglob("*") if path.is_file()]
    assert stored == {path.relative_to(photographs).as_posix(): path.read_bytes() for path in files}


def test_index_tells_offset_size_and_checksum_of_every_member(packed: Path) -> None:
    for row, members in pairs(packed):
        for member, (_, payload, offset) in zip((*MEMBERS, "hints"), members, strict=True):
            assert row[f"{member}_offset"] == offset
            assert row[f"{member}_size"] == len(payload)
            assert row[f"{member}_crc32"] == zlib.crc32(payload)


def test_json_of_a_pair_equals_its_index_row(packed: Path) -> None:
    for row, members in pairs(packed):
        record = json.loads(members[2][1])
        assert list(record) == sorted(("key", *RECORD_FIELDS))
        known = {name: row[name] for name in record if row[name] is not None}
        assert record == RECORD_DEFAULTS | known


def test_json_of_every_pair_has_the_same_keys_and_types_and_no_null(packed: Path) -> None:
    # As Hugging Face's datasets needs it, which takes its columns from the first samples.
    records = [json.loads(members[2][1]) for _, members in pairs(packed)]
    assert len({row["jpeg_quality"] is None for row, _ in pairs(packed)}) == 2, "some rows have nulls"
    shapes = {tuple((name, type(value)) for name, value in record.items()) for record in records}
    assert len(shapes) == 1
    assert None not in [value for record in records for value in record.values()]


def test_row_tells_the_truth_about_its_image(packed: Path, photographs: Path) -> None:
    for row, members in pairs(packed):
        picture = decode((photographs / row["path"]).read_bytes(), max_pixels=10**6)
        assert row["key"] == make_key(row["path"])
        assert row["pair_id"] == pair_id("photos", row["key"])
        assert (row["height"], row["width"], row["channels"]) == picture.pixels.shape
        assert (row["real_codec"], row["orientation"]) == (picture.codec, picture.orientation)
        assert row["fake_codec"] == decode(members[1][1], max_pixels=10**6).codec
        assert (row["autoencoder"], row["dtype"], row["posterior"]) == ("identity", "float32", "mode")
        if picture.jpeg:
            assert row["jpeg_tables"] == picture.jpeg.tables_hash
            assert row["jpeg_quality"] == picture.jpeg.quality
            assert row["jpeg_subsampling"] == picture.jpeg.subsampling
            assert row["jpeg_progressive"] == picture.jpeg.progressive


def test_manifest_tells_pairs_bytes_and_hashes_of_every_shard(packed: Path) -> None:
    manifest = read_manifest(open_store(str(packed)))
    assert [shard.pairs for shard in manifest.shards] == [4, 4, 3]
    assert manifest.pairs == 11
    for shard in manifest.shards:
        tar, index = ((packed / f"{shard.name}.{suffix}").read_bytes() for suffix in ("tar", "parquet"))
        assert shard.bytes == len(tar)
        assert shard.sha256 == hashlib.sha256(tar).hexdigest()
        assert shard.index_sha256 == hashlib.sha256(index).hexdigest()
    assert manifest.bytes == sum(shard.bytes for shard in manifest.shards)


def test_manifest_tells_no_place_time_or_host(packed: Path, photographs: Path) -> None:
    import socket

    text = (packed / "dataset.json").read_text()
    assert str(photographs.parent) not in text
    assert str(packed.parent) not in text
    assert socket.gethostname() not in text
    provenance = json.loads(text)["provenance"]
    assert set(provenance) == {"autoencoder", "options", "libraries", "plan"}
    assert {"torch", "pillow", "pyarrow"} <= set(provenance["libraries"])


@given(sizes=st.lists(st.integers(0, 30_000), max_size=9))
@settings(max_examples=50)
def test_tar_is_byte_for_byte_what_webdataset_writes(sizes: list[int]) -> None:
    ours, theirs = BytesIO(), BytesIO()
    writer = ShardWriter(ours, "set")
    with webdataset.TarWriter(theirs, "", "", 0o644, False, False, mtime=0) as tar:
        for number, size in enumerate(sizes):
            data = bytes([number]) * size
            pair = Pair(
                key=f"k{number}", real=data, real_codec="png", fake=data[1:], fake_codec="png", record={}
            )
            writer.add(pair)
            text = json.dumps({"key": pair.key} | RECORD_DEFAULTS, sort_keys=True).encode()
            for field, payload in (("real.png", data), ("fake.png", data[1:]), ("json", text)):
                tar.write({"__key__": pair.key, field: payload})
    size, sha256 = writer.close()
    assert ours.getvalue() == theirs.getvalue()
    assert (size, sha256) == (len(ours.getvalue()), hashlib.sha256(ours.getvalue()).hexdigest())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its tars to the collector
def test_plain_webdataset_reads_every_pair(packed: Path) -> None:
    pattern = str(packed / "shard-{000000..000002}.tar")
    samples = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("pil"))
    gc.collect()
    rows = [row for _, rows in shards(packed) for row in rows]
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        real, fake = sample["real.jpg"], sample["fake.jpg"]
        assert real.size == fake.size == (row["width"], row["height"])
        assert sample["json"]["path"] == row["path"]


def test_no_member_name_reaches_60_characters() -> None:
    out = BytesIO()
    writer = ShardWriter(out, "d")
    key = make_key("Ünïcödé name with dots.and.spaces " * 9 + ".jpg", (123_456, 654_321))
    writer.add(Pair(key=key, real=b"r", real_codec="webp", fake=b"f", fake_codec="webp", record={}))
    writer.close()
    assert max(len(name) for name, _, _ in raw_members(out.getvalue())) < 60


payloads = st.tuples(st.binary(max_size=1600), st.binary(max_size=1600))


@settings(deadline=None, max_examples=40)
@given(contents=st.lists(payloads, min_size=1, max_size=6))
def test_any_payloads_come_back_from_their_offsets(contents: list[tuple[bytes, bytes]]) -> None:
    out = BytesIO()
    writer = ShardWriter(out, "d")
    for number, (real, fake) in enumerate(contents):
        pair = Pair(key=f"k-{number}", real=real, real_codec="jpeg", fake=fake, fake_codec="png", record={})
        writer.add(pair)
    size, sha256 = writer.close()
    tar = out.getvalue()
    assert (size, sha256) == (len(tar), hashlib.sha256(tar).hexdigest())
    assert [data for _, data, _ in raw_members(tar)][0::3] == [real for real, _ in contents]
    for row, content in zip(writer.rows, contents, strict=True):
        for member, data in zip(("real", "fake"), content, strict=True):
            start = row[f"{member}_offset"]
            assert tar[start : start + row[f"{member}_size"]] == data


def test_index_keeps_the_facts_of_its_shard_and_the_types_of_its_columns() -> None:
    facts = {"name": "shard-000000", "pairs": 1, "rejected": [{"path": "é", "tile": [0, 8], "cause": "c"}]}
    row = {"key": "k", "pair_id": 2**64 - 1, "real_offset": 2**40, "real_crc32": 2**32 - 1}
    data = index_bytes([row], facts)
    assert index_facts(data) == facts
    assert read_index(data).to_pylist()[0] | row == read_index(data).to_pylist()[0]
    assert read_index(data)["pair_id"].to_numpy().dtype == np.uint64


def test_optional_columns_come_back_with_their_types() -> None:
    schema = pa.schema([*INDEX_SCHEMA, *OPTIONAL_SCHEMA])
    fake = dict.fromkeys(("seed", "offset", "size", "crc32"), 1) | {"field": "fake2.png", "codec": "png"}
    row = {"key": "k", "more_fakes": [fake, fake], "hints_offset": 2**40, "mask_crc32": 2**32 - 1}
    table = read_index(index_bytes([row, {"key": "l"}], {}, schema))
    assert table.schema.remove_metadata() == schema
    found = table.to_pylist()
    assert found[0]["more_fakes"][1] == dict.fromkeys(found[0]["more_fakes"][0]) | fake
    assert (found[0]["hints_offset"], found[1]["more_fakes"], found[1]["mask_size"]) == (2**40, None, None)


@pytest.mark.parametrize("place", [0, 1, -1, -5, -9, -20])
def test_a_damaged_index_has_no_known_facts(place: int) -> None:
    """The footer's length, its bytes and the marks at both ends: pyarrow raises several kinds of errors."""
    data = bytearray(index_bytes([{"key": "a"}], {"name": "a"}))
    data[place] ^= 2
    assert known_facts(bytes(data)) in (None, {"name": "a"})
    assert known_facts(bytes(data[:place] if place else b"")) is None


def test_index_that_someone_else_wrote_has_no_facts() -> None:
    import pyarrow.parquet as pq

    out = BytesIO()
    pq.write_table(pa.table({"key": ["a"]}), out)
    assert index_facts(out.getvalue()) == {}


def test_raw_reader_of_these_tests_refuses_a_pax_header() -> None:
    import tarfile

    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("n" * 120))
    with pytest.raises(AssertionError, match="typeflag"):
        list(raw_members(out.getvalue()))
