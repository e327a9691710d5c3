"""Adds the hints, entry points and colours, to a dataset that lacks them; the tars stay as they are.

Hints lie in a file beside each tar (`pack.shard.hints`), their places in the index. The manifest comes last.
A run that was stopped goes on: an index that it has replaced says which one that was.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from pack.adopt.written import not_of_manifest, replace_manifest, tell_pinned
from pack.dataset.dataset import Dataset
from pack.dataset.hints import faults_of_file
from pack.dataset.pairs import sound
from pack.shard.hints import Hint, HintFile, is_hint_file
from pack.shard.index import index_bytes, index_facts, read_index, replaces
from pack.shard.manifest import ADDED, HINTED, ShardEntry, read_manifest
from pack.shard.names import hints_name
from pack.shard.pair import hint_of, member_columns
from pack.shard.schema import HINT_COLUMNS, hinted
from pack.storage import Store, open_store
from recon.base.cpus import ahead, available_cpus
from recon.base.errors import UserError
from recon.base.progress import Progress, counted

_REQUEST = 8 << 20  # bytes of one read; a larger pair is still read at once
_LOG = logging.getLogger(__name__)


def add_entries(url: str) -> None:
    """Gives all shards of a dataset hints; if they have them, does nothing.

    Raises:
        UserError: there is no finished dataset, a tar or an index differs from the manifest, or a file that
            would be replaced is not of this project.
    """
    store = open_store(url)
    before = read_manifest(store)
    dataset = Dataset(url, manifest=before)
    present = set(store.names())
    with Progress(total=before.pairs, unit="pairs", what="entries") as shown:
        shards = range(len(before.shards))
        done = tuple(_in_shard(dataset, shard, present, shown.update) for shard in shards)
    if done == tuple(before.shards):
        _LOG.info("%s has entry points and colours; python -m pack.verify reads all of them", store.url)
        return
    told = {ADDED: {"sha256": before.sha256}, HINTED: "beside"}
    after = replace(before, shards=done, provenance=before.provenance | told)
    replace_manifest(store, before, after)
    _LOG.info("%s: entry points and colours of %s", store.url, counted(after.pairs, "pair"))
    tell_pinned(before, after)


def _in_shard(
    dataset: Dataset, shard: int, present: set[str], on_pairs: Callable[[int], object]
) -> ShardEntry:
    """Writes the hints of a shard, and its index with their places, where they lack; returns its entry."""
    entry, store = dataset.manifest.shards[shard], dataset.store
    name = f"{entry.name}.parquet"
    data = store.read(name)
    if hashlib.sha256(data).hexdigest() == entry.index_sha256:
        table = read_index(data)
        if table.schema.equals(hinted(table.schema)) and _are_whole(dataset, shard, present):
            on_pairs(entry.pairs)
            return entry
        if not _says_where(table):
            _refuse_foreign(store, hints_name(entry.name), present)
        hints = HintFile()
        places = [hints.add(own) for own in _computed(dataset, shard, on_pairs)]
        with store.publish(hints_name(entry.name)) as file:
            file.write(hints.to_bytes())
        if _has_places(table, places):
            _LOG.warning("%s/%s was lost or damaged; it is written anew", store.url, hints_name(entry.name))
            return entry
        data = _with_places(table, places, index_facts(data) | {ADDED: entry.index_sha256})
        with store.publish(name) as file:
            file.write(data)
    elif replaces(data, ADDED, entry):
        on_pairs(entry.pairs)
    else:
        raise not_of_manifest(f"{store.url}/{name}")
    return replace(entry, index_sha256=hashlib.sha256(data).hexdigest())


def _are_whole(dataset: Dataset, shard: int, present: set[str]) -> bool:
    """Whether the hints of a shard are as its index says; those in a tar are the tar's own matter."""
    entry = dataset.manifest.shards[shard]
    if not dataset.manifest.hints_beside:
        return True
    if hints_name(entry.name) not in present:
        return False
    data, places = dataset.store.read(hints_name(entry.name)), dataset.index(shard).hints
    assert places
    records = (places.record(row, memoryview(data)) for row in range(entry.pairs))
    return not faults_of_file(data, places) and None not in records


def _refuse_foreign(store: Store, name: str, present: set[str]) -> None:
    if name in present and not is_hint_file(store, name):
        raise UserError(f"{store.url}/{name} is of somebody else, and would be replaced; move it")


def _computed(dataset: Dataset, shard: int, on_pairs: Callable[[int], object]) -> Iterator[list[Hint]]:
    """The hints of all pairs of a shard, each payload checked by its CRC."""
    threads, requests = available_cpus(), dataset.index(shard).requests(_REQUEST)
    with ThreadPoolExecutor(threads) as pool:
        for some in ahead(pool, partial(_of_rows, dataset, shard), requests, threads):
            yield from some
            on_pairs(len(some))


def _of_rows(dataset: Dataset, shard: int, rows: range) -> list[list[Hint]]:
    pairs = map(sound, dataset.read_block(shard, rows.start, len(rows)))
    return [[hint_of(data) for data in (pair.real, *pair.fakes)] for pair in pairs]


def _has_places(table: pa.Table, places: list[dict[str, int]]) -> bool:
    known = [member_columns("hints", one) for one in places]
    return _says_where(table) and bool(table.select(HINT_COLUMNS).to_pylist() == known)


def _says_where(table: pa.Table) -> bool:
    """Whether an index names places of hints: then the file beside the tar is ours, however harmed."""
    return set(HINT_COLUMNS) <= set(table.column_names)


def _with_places(table: pa.Table, places: list[dict[str, int]], facts: dict[str, Any]) -> bytes:
    """The index with its old columns and the places of the hints."""
    columns = hinted(table.schema)
    rows = zip(table.to_pylist(), places, strict=True)
    return index_bytes([row | member_columns("hints", place) for row, place in rows], facts, columns)
