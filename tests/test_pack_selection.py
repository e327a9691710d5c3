"""Selections hold the rows that a filter selects, survive a file, and read indexes only."""

import logging
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import python
from hypothesis import given
from hypothesis import strategies as st

from pack.dataset.dataset import Dataset, open_dataset
from pack.dataset.selection import Selection, select
from pack.shard.manifest import Manifest, ShardEntry
from recon.base.errors import UserError


def manifest_of(pairs: list[int], name: str = "n") -> Manifest:
    entries = [
        ShardEntry(name=f"shard-{number:06}", pairs=count, bytes=1, sha256="0" * 64, index_sha256="0" * 64)
        for number, count in enumerate(pairs)
    ]
    return Manifest(name=name, split=None, shards=tuple(entries), rejected=0, provenance={})


def selection_of(manifest: Manifest, masks: list[list[bool]], text: str = "width > 3") -> Selection:
    bits = np.concatenate([np.packbits(np.array(mask, np.bool_)) for mask in masks])
    pairs = np.array([shard.pairs for shard in manifest.shards])
    return Selection(text=text, manifest_sha256=manifest.sha256, pairs=pairs, bits=bits)


@given(masks=st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=6))
def test_a_selection_gives_its_rows_and_survives_a_file(masks: list[list[bool]]) -> None:
    manifest = manifest_of([len(mask) for mask in masks])
    selection = selection_of(manifest, masks)
    again = Selection.from_bytes(selection.to_bytes(), manifest, "width>3")
    for one in (selection, again):
        assert one.counts.tolist() == [sum(mask) for mask in masks]
        for shard, mask in enumerate(masks):
            assert one.rows(shard).tolist() == [row for row, there in enumerate(mask) if there]
            assert one.rows(shard).dtype == np.int64
    assert again.sha256 == selection.sha256


@given(
    masks=st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=6), data=st.data()
)
def test_a_part_of_a_selection_holds_the_numbered_pairs(masks: list[list[bool]], data: st.DataObject) -> None:
    manifest = manifest_of([len(mask) for mask in masks])
    everything = Selection.of_all(manifest)
    assert everything.counts.tolist() == [len(mask) for mask in masks]
    selection = selection_of(manifest, masks)
    chosen = [(shard, row) for shard in range(len(masks)) for row in selection.rows(shard).tolist()]
    numbers = data.draw(st.sets(st.integers(0, len(chosen) - 1))) if chosen else set()
    part = selection.part(np.array(sorted(numbers), np.int64))
    found = [(shard, row) for shard in range(len(masks)) for row in part.rows(shard).tolist()]
    assert found == [chosen[number] for number in sorted(numbers)]
    assert (part.sha256 == selection.sha256) == (found == chosen)


def test_the_hash_tells_filters_datasets_and_answers_apart() -> None:
    manifest, other = manifest_of([3, 3]), manifest_of([3, 3], "other")
    masks = [[True, False, True], [False, True, False]]
    hashes = {
        selection_of(manifest, masks).sha256,
        selection_of(manifest, masks[::-1]).sha256,
        selection_of(manifest, masks, "width > 4").sha256,
        selection_of(other, masks).sha256,
    }
    assert len(hashes) == 4


def test_a_stored_selection_of_something_else_is_refused() -> None:
    manifest = manifest_of([3])
    data = selection_of(manifest, [[True, False, True]]).to_bytes()
    with pytest.raises(UserError, match=r"of another dataset: expected manifest .*, found"):
        Selection.from_bytes(data, manifest_of([3], "other"), "width > 3")
    with pytest.raises(UserError, match="of another filter: expected 'width > 4', found 'width > 3'"):
        Selection.from_bytes(data, manifest, "width > 4")


def test_a_damaged_selection_is_refused() -> None:
    manifest = manifest_of([300])
    selection = selection_of(manifest, [[True, False, True] * 100])
    data = selection.to_bytes()
    for cut in range(0, len(data), 7):
        with pytest.raises(UserError, match=r"the stored selection .*; delete it"):
            Selection.from_bytes(data[:cut], manifest, "width > 3")
    about = np.array([selection.text, selection.manifest_sha256, selection.sha256])
    for bits in (selection.bits[:-1], selection.bits ^ 1, selection.bits.astype(np.int64)):
        out = BytesIO()
        np.savez(out, about=about, bits=bits)
        with pytest.raises(UserError, match="the stored selection is damaged"):
            Selection.from_bytes(out.getvalue(), manifest, "width > 3")


class Spy:
    """A store that remembers what was read."""

    def __init__(self, dataset: Dataset) -> None:
        self.store, self.read_names = dataset.store, list[str]()
        dataset.store = self  # type: ignore[assignment]

    def read(self, name: str, **options: Any) -> bytes:
        self.read_names.append(name)
        return self.store.read(name, **options)

    def read_range(self, name: str, start: int, length: int, **options: Any) -> memoryview:
        self.read_names.append(name)
        return self.store.read_range(name, start, length, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.mark.parametrize("threads", [1, 16])
def test_select_reads_each_index_once_and_nothing_else(packed: Path, threads: int) -> None:
    dataset = open_dataset(str(packed))
    everything = pa.concat_tables(dataset.table(shard) for shard in range(len(dataset.manifest.shards)))
    spy = Spy(dataset)
    selection = select(dataset, "width >= 40 and real_codec == 'jpeg'", threads)
    names = [shard.name for shard in dataset.manifest.shards]
    assert sorted(spy.read_names) == [f"{name}.parquet" for name in names]
    found = [
        key
        for shard in range(len(names))
        for key in dataset.table(shard)["key"].take(pa.array(selection.rows(shard))).to_pylist()
    ]
    expected = [
        row["key"] for row in everything.to_pylist() if row["width"] >= 40 and row["real_codec"] == "jpeg"
    ]
    assert found == expected
    assert 0 < len(found) < len(everything)
    assert selection.counts.sum() == len(found)
    assert (
        Selection.from_bytes(selection.to_bytes(), dataset.manifest, selection.text).sha256
        == selection.sha256
    )


def test_a_filter_without_columns_selects_all(packed: Path) -> None:
    dataset = open_dataset(str(packed))
    assert select(dataset, "True").counts.tolist() == [shard.pairs for shard in dataset.manifest.shards]


def test_spelling_does_not_change_a_selection(packed: Path) -> None:
    dataset = open_dataset(str(packed))
    spellings = [
        'width>=40 and(group!="x")',
        "width >= 40 and group != 'x'",
        "(\nwidth >= 40\nand group != 'x')",
    ]
    assert len({select(dataset, text).sha256 for text in spellings}) == 1


def test_progress_counts_indexes(packed: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    select(open_dataset(str(packed)), "width > 3")
    assert "filter: 3/3 indexes" in caplog.text


def test_a_filter_that_selects_nothing_is_an_error(packed: Path) -> None:
    dataset = open_dataset(str(packed))
    pairs = dataset.manifest.pairs
    with pytest.raises(UserError, match=rf"filter 'width > 9999' selects none of {pairs} pairs of .*photos;"):
        select(dataset, "width > 9999")


def test_a_calculation_beyond_64_bits_is_an_error_that_names_the_index(packed: Path) -> None:
    text = "width * 9223372036854775807 > 3"
    with pytest.raises(UserError, match=r"can't be evaluated on .*shard-\d+\.parquet: overflow"):
        select(open_dataset(str(packed)), text)


def test_an_index_that_differs_from_the_manifest_is_an_error(packed: Path) -> None:
    dataset = open_dataset(str(packed))
    spy = Spy(dataset)
    spy.read = lambda name, **_: b"another" + spy.store.read(name)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"shard-\d+\.parquet differs from the manifest"):
        select(dataset, "width > 3")


def test_parsing_does_not_import_the_reader_of_datasets() -> None:
    result = python(
        "import sys, pack.dataset.selection\n"
        "assert 'pack.dataset.dataset' not in sys.modules and 'torch' not in sys.modules"
    )
    assert result.returncode == 0, result.stderr
