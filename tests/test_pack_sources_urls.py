"""Sources in buckets and behind other URLs: the same items as of a folder, however many keys there are."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pack_runs import identity
from s3_server import S3Env

from pack.base.config import PackConfig
from pack.base.items import File, Item, store_of
from pack.sources import find_items, read_size
from pack.storage import open_store
from recon.base.errors import MissingError, RejectedImageError, UserError


@pytest.fixture(autouse=True)
def _forget_stores() -> Iterator[None]:
    """Stores keep the credentials that they were opened with."""
    store_of.cache_clear()
    yield
    store_of.cache_clear()


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty URL prefix."""
    if request.param == "s3":
        yield request.getfixturevalue("s3_env").url
        return
    root = f"memory://{uuid.uuid4()}/data"
    yield root
    memory = fsspec.filesystem("memory")
    if memory.exists(root):
        memory.rm(root, recursive=True)


def config(source: str, **options: Any) -> PackConfig:
    return PackConfig(source=source, out="unused", **identity(options) | options)


def put(url: str, name: str, data: bytes = b"") -> None:
    """Stores an object below a URL."""
    folder, _, name = f"{url}/{name}".rpartition("/")
    with open_store(folder).publish(name) as file:
        file.write(data)


def mirror(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            put(url, path.relative_to(folder).as_posix(), path.read_bytes())


def facts(items: list[Item]) -> list[tuple[Any, ...]]:
    return [(item.path, item.tile, item.group, item.real.size, item.real.read()) for item in items]


def test_prefix_gives_the_items_of_the_same_folder(photographs: Path, url: str) -> None:
    mirror(photographs, f"{url}/photos")
    for options in ({}, {"tile": 16, "limit": 4}, {"val_fraction": 0.5}):
        here, there = (
            find_items(config(str(photographs), **options)),
            find_items(config(f"{url}/photos/", **options)),
        )
        assert {split: facts(items) for split, items in there.items()} == {
            split: facts(items) for split, items in here.items()
        }


def test_every_key_past_the_first_thousand_is_found_once_and_only_images(s3_env: S3Env) -> None:
    names = [f"{number % 7}/{number:05}.jpg" for number in range(2100)]
    s3_env.put_empty([*names, *(f"{number % 7}/{number:05}.txt" for number in range(1100))])
    items = find_items(config(s3_env.url))[None]
    assert [item.path for item in items] == sorted(names)
    assert {item.group for item in items} == set("0123456")


def test_hidden_names_and_those_that_stand_for_folders_are_left_out(s3_env: S3Env) -> None:
    for name in ("a.jpg", ".b.jpg", ".c/d.jpg", "e/.f/g.jpg", "h/"):
        s3_env.put(name, b"x")
    assert [item.path for item in find_items(config(s3_env.url))[None]] == ["a.jpg"]


def test_neighbouring_prefix_is_not_part_of_the_source(url: str) -> None:
    put(url, "photos/a.jpg")
    put(url, "photos2/b.jpg")
    assert [item.path for item in find_items(config(f"{url}/photos"))[None]] == ["a.jpg"]


def test_reconstructions_may_be_elsewhere_than_the_photographs(tmp_path: Path, url: str) -> None:
    for name in ("a.jpg", "b/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        put(url, f"real/{name}", name.encode())
        put(url, f"fake/{name[:-3]}png", b"fake " + name.encode())
    for source in (str(tmp_path), f"{url}/real"):
        items = find_items(config(source, reconstructions=f"{url}/fake"))[None]
        assert [item.fake and item.fake.read() for item in items] == [b"fake a.jpg", b"fake b/c.jpg"]
    put(url, "fake/d.png")
    with pytest.raises(UserError, match=r"no partner in .*real, the first is d\.png"):
        find_items(config(f"{url}/real", reconstructions=f"{url}/fake"))


def test_tree_in_a_bucket_is_that_of_a_folder(tmp_path: Path, url: str) -> None:
    for split in ("train", "val"):
        for half in ("0_real/a.jpg", "1_fake/a.png", "0_real/x/b.jpg", "1_fake/x/b.webp"):
            path = tmp_path / "tree" / split / "sd15" / half
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(half.encode())
    mirror(tmp_path / "tree", f"{url}/tree")
    here = find_items(config(str(tmp_path / "tree"), layout="tree"))
    there = find_items(config(f"{url}/tree", layout="tree"))
    assert {split: facts(items) for split, items in there.items()} == {
        split: facts(items) for split, items in here.items()
    }
    assert [item.fake and item.fake.read() for item in there["val"]] == [b"1_fake/a.png", b"1_fake/x/b.webp"]
    with pytest.raises(UserError, match="holds none of train, val, valid"):
        find_items(config(f"{url}/tree/train", layout="tree"))


def test_prefix_without_images_is_an_error(url: str) -> None:
    put(url, "photos/notes.txt")
    for source in (f"{url}/photos", f"{url}/nowhere"):
        with pytest.raises(UserError, match=r"no images for the dataset in .*://"):
            find_items(config(source))


def test_bucket_that_is_not_there_is_an_error(s3_env: S3Env) -> None:  # noqa: ARG001  # its variables
    with pytest.raises(UserError, match="bucket of s3://nowhere-at-all/x not found"):
        find_items(config("s3://nowhere-at-all/x"))


def test_object_that_is_gone_is_rejected_and_failing_storage_is_not(s3_env: S3Env) -> None:
    gone = File(s3_env.url, "gone.jpg", 5)
    for call in (gone.read, lambda: gone.head(3), File(s3_env.url, "gone.jpg").measured):
        with pytest.raises(RejectedImageError, match=r"can't be read: not found in s3://"):
            call()
    s3_env.put("a.jpg", b"12345")
    assert File(s3_env.url, "a.jpg").measured() == 5
    s3_env.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store_of.cache_clear()
    with pytest.raises(UserError, match="refuses the credentials"):
        File(s3_env.url, "a.jpg", 5).read()


def test_missing_object_is_told_from_a_missing_bucket(s3_env: S3Env) -> None:
    with pytest.raises(MissingError):
        open_store(s3_env.url).read("none")
    with pytest.raises(UserError, match="bucket of") as told:
        open_store("s3://nowhere-at-all/x").read("none")
    assert not isinstance(told.value, MissingError)


def test_head_of_an_object_takes_one_short_request(s3_env: S3Env) -> None:
    s3_env.put("a.bin", bytes(range(256)) * 100)
    s3_env.put("empty.bin", b"")
    store = open_store(s3_env.url)
    assert store.head("a.bin", 10) == bytes(range(10))
    assert store.head("a.bin", 10**9) == s3_env.get("a.bin")
    assert store.head("empty.bin", 10) == b""
    with pytest.raises(MissingError):
        store.head("none.bin", 10)


def test_size_of_an_image_is_told_by_its_first_bytes(
    photographs: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded = (photographs / "plain.jpg").read_bytes() + bytes(1 << 20)
    put(url, "a.jpg", padded)
    whole: list[str] = []
    monkeypatch.setattr(type(open_store(url)), "read", lambda _, name: whole.append(name))
    assert read_size(File(url, "a.jpg", len(padded)), 10**6) == (40, 56)
    assert not whole


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_size_is_found_wherever_a_format_keeps_it(tmp_path: Path, suffix: str) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (150, 310, 3), np.uint8)
    options: dict[str, Any] = {"webp": {"lossless": True}}.get(suffix, {})
    if suffix == "jpg":
        options = {"exif": b"Exif\0\0" + bytes(60_000), "icc_profile": bytes(90_000)}
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}", **options)
    path = tmp_path / f"a.{suffix}"
    assert path.stat().st_size > 1 << 16
    assert read_size(File(str(tmp_path), path.name, path.stat().st_size), 10**6) == (150, 310)
