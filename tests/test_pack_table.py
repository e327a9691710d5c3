"""A manifest whose shards are listed by a table beside it: the same dataset, read with less."""

import hashlib
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_data import make_dataset, steps_of, world

from pack.adopt.written import replace_manifest
from pack.dataset.dataset import open_dataset
from pack.inspect.verify import verify
from pack.shard.listed.table import ShardTable
from pack.shard.manifest import FORMAT, NAME, TABLE_FORMAT, Manifest, ShardEntry, read_manifest
from pack.storage import open_store
from recon.base.errors import UserError
from train.loader.known_tars import KnownTars

SHA256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
ENTRIES = st.builds(
    ShardEntry,
    name=st.from_regex(r"[a-zé][a-z0-9é-]{0,20}", fullmatch=True),
    pairs=st.integers(0, 2**31 - 1),
    bytes=st.integers(0, 2**50),
    sha256=SHA256,
    index_sha256=SHA256,
)


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this node's copies."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder / f"pairstream-{os.getuid()}"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("listed"), pairs=20, shard_pairs=4)


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pack.publish.finish.LISTED", 4)
        yield make_dataset(tmp_path_factory.mktemp("tabled"), pairs=20, shard_pairs=4)


def table_of(url: str) -> Path:
    (path,) = Path(url).glob("dataset-*.npy")
    return path


@given(st.lists(ENTRIES, max_size=5))
def test_a_table_gives_the_entries_that_it_was_made_of(entries: list[ShardEntry]) -> None:
    table = ShardTable.of(entries)
    assert list(table) == entries
    assert [table[number] for number in range(len(table))] == entries
    assert table[1:] == tuple(entries[1:])
    assert table.column("pairs").tolist() == [entry.pairs for entry in entries]
    assert table.column("bytes").tolist() == [entry.bytes for entry in entries]
    assert table.sha256 == hashlib.sha256(table.to_bytes()).hexdigest()
    again = pickle.loads(pickle.dumps(table))
    assert list(again) == entries


def test_only_a_dataset_of_many_shards_is_packed_with_a_table(listed: str, tabled: str) -> None:
    one, other = open_dataset(listed).manifest, open_dataset(tabled).manifest
    assert json.loads(Path(listed, NAME).read_text())["format"] == FORMAT
    assert json.loads(Path(tabled, NAME).read_text())["format"] == TABLE_FORMAT
    assert list(other.shards) == list(one.shards)
    assert (other.pairs, other.bytes, other.format) == (one.pairs, one.bytes, one.format)
    assert not list(Path(listed).glob("*.npy"))
    assert [row["name"].decode() for row in np.load(table_of(tabled))] == [one.name for one in one.shards]


def test_a_tabled_dataset_verifies_and_gives_the_same_batches(listed: str, tabled: str) -> None:
    assert list(verify(open_dataset(tabled))) == []
    one, other = (steps_of(world(url, 2)) for url in (listed, tabled))
    assert [list(step) for step in one] == [list(step) for step in other]
    assert all((step[key] == more[key]).all() for step, more in zip(one, other, strict=True) for key in step)


def test_a_worker_gets_the_place_of_the_table_and_not_its_rows(tabled: str) -> None:
    (loader,) = world(tabled, 1)
    assert loader.plan.sources[0].manifest.table.to_bytes()[-64:] not in pickle.dumps(loader.plan)
    (in_worker,) = world(tabled, 1, workers=1)
    assert len(steps_of([in_worker])) == len(loader)
    in_worker.close()


def test_an_older_dataset_of_many_shards_keeps_its_list_and_its_hash(tmp_path: Path) -> None:
    entry = ShardEntry(name="shard-000000", pairs=1, bytes=1, sha256="0" * 64, index_sha256="0" * 64)
    shards = tuple(replace(entry, name=f"shard-{number:06d}") for number in range(20_001))
    before = Manifest(name="a", split=None, shards=shards, rejected=0, provenance={})
    (tmp_path / NAME).write_text(before.to_json())
    after = read_manifest(open_store(str(tmp_path)))
    assert (after.to_json(), after.sha256, after.tabled) == (before.to_json(), before.sha256, False)


def test_processes_of_a_node_share_one_copy_and_a_damaged_one_is_made_again(
    tabled: str, copies: Path
) -> None:
    first = open_dataset(tabled).manifest.table
    (copy,) = copies.iterdir()
    assert first.path == str(copy)
    assert copies.stat().st_mode & 0o77 == 0
    inode, content = copy.stat().st_ino, copy.read_bytes()
    assert content == table_of(tabled).read_bytes()
    assert open_dataset(tabled).manifest.table.path == str(copy)
    copy.write_bytes(content[:-1])  # a process was killed while it wrote
    assert list(open_dataset(tabled).manifest.shards) == list(first)
    assert (copy.stat().st_ino, copy.read_bytes()) == (inode, content)


def test_a_node_without_a_place_for_copies_keeps_the_table_in_memory(tabled: str, copies: Path) -> None:
    copies.parent.joinpath(copies.name).write_text("a file where the folder should be")
    assert open_dataset(tabled).manifest.table.path is None
    assert open_dataset(tabled).manifest.pairs == 20


def test_a_changed_table_is_refused(tmp_path: Path, tabled: str) -> None:
    for path in (Path(tabled, NAME), table_of(tabled)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with table_of(str(tmp_path)).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(UserError, match=r"dataset-[0-9a-f]{16}\.npy differs from dataset\.json"):
        read_manifest(open_store(str(tmp_path)))


def test_a_dataset_that_gets_other_indexes_gets_another_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pack.publish.finish.LISTED", 1)
    url = make_dataset(tmp_path, pairs=4, shard_pairs=2)
    before = table_of(url)
    manifest = open_dataset(url).manifest
    changed = [replace(entry, index_sha256="0" * 64) for entry in manifest.shards]
    replace_manifest(open_store(url), manifest, replace(manifest, shards=tuple(changed)))
    assert table_of(url) != before
    assert list(open_dataset(url).manifest.shards) == changed


def test_known_tars_are_those_of_the_datasets(listed: str, tabled: str) -> None:
    for url in (listed, tabled):
        manifest = open_dataset(url).manifest
        known = KnownTars([manifest])
        assert all(shard.sha256 in known for shard in manifest.shards)
        assert "0" * 64 not in known
        assert "other" not in known
    assert "0" * 64 not in KnownTars([])
