"""What lies below a directory or URL, at any depth, and how a large object begins."""

import errno
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_objects import DATA, put

from pack.shard.manifest import read_manifest
from pack.storage import FsspecStore, LocalStore, Store, open_store
from recon.base.errors import MissingError, UserError


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    """One whose directory does not exist yet."""
    return LocalStore(str(tmp_path / "data"))


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, local: LocalStore) -> Iterator[Store]:
    """An empty store."""
    if request.param == "local":
        yield local
        return
    root = f"memory://{uuid.uuid4()}"
    yield open_store(root)
    memory = fsspec.filesystem("memory")
    if memory.exists(root):
        memory.rm(root, recursive=True)


def store_of_folder(store: Store, name: str) -> Store:
    """That of the folder in which an object of this name lies: names to publish have no folders."""
    return open_store(f"{store.url}/{name}".rsplit("/", 1)[0])


def test_walk_finds_every_object_at_any_depth_with_its_size(store: Store) -> None:
    sizes = {"a.jpg": 1, "b.txt": 0, "sub/a.jpg": 2, "sub/deep/er/c.PNG": 3, "写 真/d e.jpg": 4}
    for name, size in sizes.items():
        put(store_of_folder(store, name), name.rsplit("/", 1)[-1], b"x" * size)
    assert dict(store.walk()) == sizes
    assert dict(open_store(f"{store.url}/sub").walk()) == {"a.jpg": 2, "deep/er/c.PNG": 3}


def test_walk_leaves_out_hidden_files_and_folders(store: Store) -> None:
    for name in ("a.jpg", ".a.jpg", ".git/b.jpg", "sub/.c.jpg", "sub/.d/e.jpg", "sub/f.g.jpg"):
        put(store_of_folder(store, name), name.rsplit("/", 1)[-1])
    assert sorted(name for name, _ in store.walk()) == ["a.jpg", "sub/f.g.jpg"]


def test_walk_of_what_is_not_there_is_told_from_failing(store: Store) -> None:
    with pytest.raises(MissingError, match="not found"):
        list(store.walk())


def test_head_is_the_beginning_or_all_there_is(store: Store) -> None:
    put(store, "a.tar")
    put(store, "empty", b"")
    assert store.head("a.tar", 10) == DATA[:10]
    assert store.head("a.tar", len(DATA)) == store.head("a.tar", len(DATA) + 1) == DATA
    assert store.head("empty", 10) == b""
    with pytest.raises(MissingError, match=r"none\.tar not found"):
        store.head("none.tar", 10)


def test_head_pins_nothing(local: LocalStore) -> None:
    put(local, "a.tar")
    assert local.head("a.tar", 9) == DATA[:9]
    time.sleep(0.02)  # a clock tick of the file system
    (local.root / "a.tar").write_bytes(DATA[::-1])
    assert local.read_range("a.tar", 0, 9) == DATA[::-1][:9]


def test_walk_follows_links_to_files_and_no_links_to_folders_but_those_asked_for(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.jpg").write_bytes(b"12345")
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").symlink_to(elsewhere / "b.jpg")
    (root / "gone.jpg").symlink_to(elsewhere / "nowhere.jpg")
    (root / "sub/real").symlink_to(elsewhere)
    (root / "sub/other").symlink_to(elsewhere)
    (root / "sub/loop").symlink_to(root)
    os.mkfifo(root / "pipe.jpg")
    assert dict(LocalStore(str(root)).walk()) == {"a.jpg": 5, "gone.jpg": None}
    found = dict(LocalStore(str(root)).walk(links=("real",)))
    assert found == {"a.jpg": 5, "gone.jpg": None, "sub/real/b.jpg": 5}


def test_link_to_a_folder_that_contains_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)
    for target in (".", "..", str(tmp_path)):
        (tmp_path / "data/sub/real").symlink_to(target)
        with pytest.raises(UserError, match="sub/real is a link to a folder that contains it"):
            list(LocalStore(str(tmp_path / "data")).walk(links=("real",)))
        (tmp_path / "data/sub/real").unlink()


def test_folder_that_cannot_be_listed_is_an_error_that_names_it(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(LocalStore(f"{local.url}/secret"), "a.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if path.name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"can't list .*data/secret: Permission denied"):
        list(local.walk())


def test_folder_of_other_storage_that_cannot_be_listed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsspecStore(f"memory://{uuid.uuid4()}")
    put(FsspecStore(f"{store.url}/secret"), "a.jpg")
    ls = store.fs.ls

    def refuse(path: str, **options: Any) -> Any:
        if path.endswith("secret"):
            raise PermissionError("no")
        return ls(path, **options)

    monkeypatch.setattr(store.fs, "ls", refuse)
    with pytest.raises(UserError, match=r"no permission to list memory://.*/secret"):
        list(store.walk())


NAME = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 60)


@given(st.sets(st.lists(NAME, min_size=1, max_size=3).map("/".join), max_size=12))
def test_walk_finds_exactly_the_names_that_were_written(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = {}
        for number, name in enumerate(sorted(names)):
            path = Path(folder, name)
            with suppress(OSError):  # a file is where this needs a folder, or the other way round
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x" * number)
                written[name] = number
        visible = {name: size for name, size in written.items() if "/." not in f"/{name}"}
        assert dict(LocalStore(folder).walk()) == visible


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_regular_file_is_neither_read_nor_replaced(local: LocalStore, make: Any) -> None:
    local.root.mkdir(exist_ok=True)
    make(local.root / "a.tar")
    assert not local.exists("a.tar")
    make(local.root / "dataset.json")
    with pytest.raises(UserError, match=r"dataset\.json is a pipe, a socket or a device, expected a file"):
        read_manifest(local)
    for read in (local.size, local.read, lambda name: local.head(name, 1)):
        with pytest.raises(UserError, match=r"a\.tar is a pipe, a socket or a device, expected a file"):
            read("a.tar")
    with pytest.raises(UserError, match=r"a\.tar is a pipe"):
        local.read_range("a.tar", 0, 1)
    with pytest.raises(UserError, match=r"can't write .*a\.tar: it is a pipe"), local.publish("a.tar"):
        pass
    with pytest.raises(UserError, match=r"is a directory, expected a file"):
        LocalStore(str(local.root.parent)).size(local.root.name)
