"""Adds entry points and colours to the indexes of a dataset that lacks them; the tars stay as they are.

The manifest comes last. A run that was stopped goes on: an index that it has replaced says which one that
was.
"""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from pack.adopt.replaced import not_of_manifest, replace_manifest, replaces, tell_pinned
from pack.dataset.dataset import Dataset
from pack.dataset.pairs import sound
from pack.shard.index import index_bytes, index_facts, read_index
from pack.shard.manifest import ShardEntry, read_manifest
from pack.shard.names import fake_name
from pack.shard.pair import hint_columns, member_columns
from pack.shard.schema import MORE_FAKES, hinted
from pack.storage import open_store
from recon.base.cpus import ahead, available_cpus
from recon.base.progress import Progress, counted

ADDED = "entries"
"""In the provenance of a manifest and the facts of an index: what this module has replaced."""

_REQUEST = 8 << 20  # bytes of one read; a larger pair is still read at once
_LOG = logging.getLogger(__name__)

Hints = dict[str, dict[str, Any]]
"""By ``real``, ``fake``, ``fake2`` and so on: the columns of `pack.shard.schema.HINTS`."""


def add_entries(url: str) -> None:
    """Gives all indexes of a dataset entry points and colours; if they have them, does nothing.

    Raises:
        UserError: there is no finished dataset, or a tar or an index differs from the manifest.
    """
    store = open_store(url)
    before = read_manifest(store)
    dataset = Dataset(url, manifest=before)
    with Progress(total=before.pairs, unit="pairs", what="entries") as shown:
        shards = range(len(before.shards))
        done = tuple(_in_shard(dataset, shard, shown.update) for shard in shards)
    if done == tuple(before.shards):
        _LOG.info("%s has entry points and colours already, nothing to do", store.url)
        return
    after = replace(before, shards=done, provenance=before.provenance | {ADDED: {"sha256": before.sha256}})
    replace_manifest(store, before, after)
    _LOG.info("%s: entry points and colours of %s", store.url, counted(after.pairs, "pair"))
    tell_pinned(before, after)


def _in_shard(dataset: Dataset, shard: int, on_pairs: Callable[[int], object]) -> ShardEntry:
    """Replaces the index of a shard if it lacks the columns; returns its entry."""
    entry, store = dataset.manifest.shards[shard], dataset.store
    name = f"{entry.name}.parquet"
    data = store.read(name)
    if hashlib.sha256(data).hexdigest() == entry.index_sha256:
        table = read_index(data)
        if table.schema.equals(hinted(table.schema)):
            on_pairs(entry.pairs)
            return entry
        hints = _computed(dataset, shard, on_pairs)
        data = _with_hints(table, hints, index_facts(data) | {ADDED: entry.index_sha256})
        with store.publish(name) as file:
            file.write(data)
    elif replaces(data, ADDED, entry):
        on_pairs(entry.pairs)
    else:
        raise not_of_manifest(f"{store.url}/{name}")
    return replace(entry, index_sha256=hashlib.sha256(data).hexdigest())


def _computed(dataset: Dataset, shard: int, on_pairs: Callable[[int], object]) -> list[Hints]:
    """The hints of all pairs of a shard, each payload checked by its CRC."""
    found: list[Hints] = []
    threads, requests = available_cpus(), dataset.index(shard).requests(_REQUEST)
    with ThreadPoolExecutor(threads) as pool:
        for hints in ahead(pool, partial(_of_rows, dataset, shard), requests, threads):
            found += hints
            on_pairs(len(hints))
    return found


def _of_rows(dataset: Dataset, shard: int, rows: range) -> list[Hints]:
    pairs = map(sound, dataset.read_block(shard, rows.start, len(rows)))
    return [
        {"real": hint_columns(pair.real)}
        | {fake_name(number): hint_columns(data) for number, data in enumerate(pair.fakes)}
        for pair in pairs
    ]


def _with_hints(table: pa.Table, hints: list[Hints], facts: dict[str, Any]) -> bytes:
    """The index with its old columns and those of the hints."""
    rows = table.to_pylist()
    for row, own in zip(rows, hints, strict=True):
        for number, more in enumerate(row.get(MORE_FAKES) or [], 1):
            more |= own[fake_name(number)]
        row |= member_columns("real", own["real"]) | member_columns("fake", own["fake"])
    return index_bytes(rows, facts, hinted(table.schema))
