"""Whatever the source, the photographs' own bytes arrive in the shards, and the shards are as large."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset
from s3_server import S3Env

from pack.base.config import PackConfig
from pack.base.items import store_of
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.plan.plan import make_plan
from pack.publish.packing import pack
from pack.sources import find_items

NAMES = ("plain.jpg", "a/grey.jpg", "b/rgb.png", "b/lossy.webp")


@pytest.fixture(autouse=True)
def _forget_stores() -> Iterator[None]:
    """Stores keep the credentials that they were opened with."""
    store_of.cache_clear()
    yield
    store_of.cache_clear()


def config(source: object, out: Path | str, **options: Any) -> PackConfig:
    return PackConfig(source=str(source), out=str(out), autoencoder="identity", threads=2, **options)


def packed_bytes(out: Path | str) -> dict[str, bytes]:
    """The real image's bytes by the path that the pair was found at."""
    return {json.loads(pair.members["json"])["path"]: pair.real for pair in iterate_pairs(str(out))}


def sources(photographs: Path, folder: Path, s3_env: S3Env) -> dict[str, tuple[str, str]]:
    """Each kind of source of the same photographs: where it is, and what heads its paths."""
    for name in NAMES:
        s3_env.put(f"photos/{name}", (photographs / name).read_bytes())
    with webdataset.TarWriter(str(folder / "0.tar"), mtime=0) as writer:
        for name in NAMES:
            key, field = name.split(".")
            writer.write({"__key__": key, field: (photographs / name).read_bytes()})
    s3_env.put("tars/0.tar", (folder / "0.tar").read_bytes())
    urls = [f"{s3_env.url}/photos/{name}" for name in NAMES]
    (folder / "list.csv").write_text("\n".join(["url", *urls, ""]))
    return {
        "prefix": (f"{s3_env.url}/photos", ""),
        "tar": (str(folder / "0.tar"), "0.tar/"),
        "tars in a bucket": (f"{s3_env.url}/tars/{{0..0}}.tar", "0.tar/"),
        "table": (str(folder / "list.csv"), f"{s3_env.url}/photos/"),
    }


def test_every_kind_of_source_packs_the_photographs_own_bytes(
    photographs: Path, tmp_path: Path, s3_env: S3Env
) -> None:
    for kind, (source, head) in sources(photographs, tmp_path, s3_env).items():
        out = tmp_path / "out" / kind
        pack(config(source, out))
        assert packed_bytes(out) == {head + name: (photographs / name).read_bytes() for name in NAMES}, kind


def test_object_that_vanishes_after_listing_is_rejected(
    photographs: Path, tmp_path: Path, s3_env: S3Env
) -> None:
    s3_env.put("photos/a.jpg", (photographs / "plain.jpg").read_bytes())
    (tmp_path / "list.csv").write_text(f"url\n{s3_env.url}/photos/a.jpg\n{s3_env.url}/photos/gone.jpg\n")
    pack(config(tmp_path / "list.csv", tmp_path / "out"))
    assert set(packed_bytes(tmp_path / "out")) == {f"{s3_env.url}/photos/a.jpg"}
    assert "can't be read: not found" in (tmp_path / "out/rejected.jsonl").read_text()


def test_dataset_is_named_after_its_source(photographs: Path, tmp_path: Path, s3_env: S3Env) -> None:
    names = {}
    for kind, (source, _) in sources(photographs, tmp_path, s3_env).items():
        pack(config(source, tmp_path / "out" / kind))
        names[kind] = open_dataset(str(tmp_path / "out" / kind)).manifest.name
    assert names == {"prefix": "photos", "tar": "0", "tars in a bucket": "tars", "table": "list"}


def test_shards_are_as_large_whatever_lists_their_images(
    photographs: Path, tmp_path: Path, s3_env: S3Env
) -> None:
    """A table tells no sizes, and a tar's name ends as no image's does."""
    pairs = {}
    for kind, (source, _) in sources(photographs, tmp_path, s3_env).items():
        options = config(source, tmp_path, shard_mb=1)
        found = find_items(options)[None]
        many = [replace(item, variant=str(n)) for n in range(400) for item in found]
        pairs[kind] = len(make_plan(many, options, [{}]).shards[0])
    assert 1 < min(pairs.values()) == max(pairs.values()) < 1600, pairs
