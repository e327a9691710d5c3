"""Makes a dataset of ``pairstream/1`` one of ``pairstream/2``: new indexes, a card, the manifest last.

The tars stay as they are: only the index tells names and JPEG phases. KEY.json keeps its nulls. A run that
was stopped goes on: an index that it has replaced says which one that was.
"""

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from pack.adopt.written import not_of_manifest, replace_manifest, tell_pinned
from pack.card.card import CARD
from pack.card.update import new_card
from pack.shard.index import index_bytes, index_facts, read_index, replaces
from pack.shard.manifest import FORMAT, OLD_FORMAT, UPGRADED, Manifest, ShardEntry, read_manifest
from pack.shard.schema import ADOPTED_SCHEMA, HEADERS, HINT_COLUMNS, INDEX_SCHEMA, field_names, hinted
from pack.storage import Store, open_store
from recon.base.errors import UserError
from recon.base.progress import counted, progress

_AT_ONCE = 16  # threads, which mostly wait for storage
_LOG = logging.getLogger(__name__)

Names = set[tuple[str, str]]


def upgrade(url: str) -> None:
    """Upgrades the dataset at a directory or URL; one that is of the new format already is left alone.

    Raises:
        UserError: there is no finished dataset, or a tar or index differs from the manifest.
    """
    store = open_store(url)
    before = read_manifest(store)
    if before.format == FORMAT:
        _LOG.info("%s is of %s already, nothing to do", store.url, FORMAT)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        indexes = pool.map(partial(_upgrade_shard, store), before.shards)
        done = list(progress(indexes, total=len(before.shards), unit="indexes", what="upgrade"))
    after = replace(
        before,
        format=FORMAT,
        shards=tuple(entry for entry, _ in done),
        fields=None if "adopted" in before.provenance else _constant(names for _, names in done),
        provenance=before.provenance | {UPGRADED: {"format": OLD_FORMAT, "sha256": before.sha256}},
    )
    if text := new_card(store, after, store.names()):
        with store.publish(CARD) as file:
            file.write(text)
    replace_manifest(store, before, after)
    _tell(store, before, after)


def _upgrade_shard(store: Store, entry: ShardEntry) -> tuple[ShardEntry, Names]:
    """Replaces the index of a shard; returns its new entry, and the names of its images."""
    size = store.size(f"{entry.name}.tar")
    if size != entry.bytes:
        raise UserError(
            f"{store.url}/{entry.name}.tar has {size} bytes, the manifest says {entry.bytes}; restore it"
        )
    name = f"{entry.name}.parquet"
    data = store.read(name)
    if hashlib.sha256(data).hexdigest() == entry.index_sha256:
        data = _upgraded(data, entry)
        with store.publish(name) as file:
            file.write(data)
    elif not replaces(data, UPGRADED, entry):
        raise not_of_manifest(f"{store.url}/{name}")
    table = read_index(data, ["real_field", "fake_field"])
    names = set(zip(table["real_field"].to_pylist(), table["fake_field"].to_pylist(), strict=True))
    return replace(entry, index_sha256=hashlib.sha256(data).hexdigest()), names


def _upgraded(data: bytes, entry: ShardEntry) -> bytes:
    """An index with the columns of the new format."""
    table = read_index(data)
    columns = ADOPTED_SCHEMA if HEADERS[0] in table.column_names else INDEX_SCHEMA
    if HINT_COLUMNS[0] in table.column_names:
        columns = hinted(columns)
    rows = [row | _new_columns(row) for row in table.to_pylist()]
    return index_bytes(rows, index_facts(data) | {UPGRADED: entry.index_sha256}, columns)


def _new_columns(row: dict[str, Any]) -> dict[str, Any]:
    real, fake = field_names(row["real_codec"], row["fake_codec"])
    # Both images of policy `both` are JPEGs made by packing, whatever the photograph was.
    is_own = row["real_codec"] == "jpeg" and row["codec_policy"] != "both"
    return {"real_field": real, "fake_field": fake, "jpeg_phase": 0 if is_own else None}


def _constant(shards: Iterable[Names]) -> dict[str, str] | None:
    """The names of the images if all pairs have the same."""
    names = set().union(*shards)
    return dict(zip(("real", "fake"), names.pop(), strict=True)) if len(names) == 1 else None


def _tell(store: Store, before: Manifest, after: Manifest) -> None:
    fields = " and ".join(after.fields.values()) if after.fields else "images named as before"
    shards = counted(len(after.shards), "shard")
    _LOG.info("%s: %s of %s -> %s, %s", *(store.url, shards, OLD_FORMAT, FORMAT, fields))
    tell_pinned(before, after)
