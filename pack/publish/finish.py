"""The completion of a dataset whose shards are all there: rejected.jsonl, then the manifest, last of all.

Any process may do it, several at once too: all that goes into it lies in the store, so that
it comes out the same, and who comes second finds it done.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from pack.publish.claim import EMPTY, PLAN, Claim, completed, put, read_if_there
from pack.shard.index import index_facts
from pack.shard.manifest import NAME, Manifest, ShardEntry
from pack.storage import Store
from recon.base.errors import UserError
from recon.base.progress import counted

REJECTED = "rejected.jsonl"
"""Lists the images that did not become pairs; absent where all did."""

_READERS = 16  # of small objects; a bucket answers in some 30 ms
_LOOKS = 5  # at a store that other processes change meanwhile
_LOG = logging.getLogger(__name__)

T = TypeVar("T")
Facts = dict[str, Any]  # of a finished shard, kept in its index: name, pairs, bytes, sha256, rejected, plan


@dataclass(frozen=True)
class _Shard:
    """What completing needs of a shard."""

    entry: ShardEntry | None
    """None where all of its items were rejected."""
    rejected: list[dict[str, Any]]


class NoPairsError(UserError):
    """None of a dataset's images became a pair, so that there is no dataset; its traces are removed."""


class _GoneError(Exception):
    """What was listed is no more there: another process completed the dataset and tidied up."""


def is_published(name: str, names: Collection[str]) -> bool:
    """Whether the shard of that stem is finished, or known to be empty, by the names in its store."""
    return (f"{name}.tar" in names and f"{name}.parquet" in names) or f"{name}{EMPTY}" in names


def finish(store: Store, claim: Claim) -> list[str]:
    """Completes the dataset, if all of its shards are there.

    Returns:
        The stems of the shards that are not: none where the dataset is complete now.

    Raises:
        NoPairsError: none of the images became a pair.
        UserError: a shard can't be read, is another run's or was lost since.
    """
    for _ in range(_LOOKS):
        names = set(store.names())
        if NAME in names and (manifest := completed(store, claim)):
            check_files(store, manifest)
            _tidy(store, names)
            return []
        missing = [name for name in claim.names if not is_published(name, names)]
        if missing:
            return missing
        try:
            shards = in_parallel(partial(_read, store, claim.plan, names), claim.names)
        except _GoneError:
            continue
        _publish(store, claim, shards, names)
        return []
    raise UserError(f"{store.url} is changed by others all the time; run python -m pack.finish again")


def check_files(store: Store, manifest: Manifest) -> None:
    """Looks whether all files of a complete dataset are there; pack.verify reads them.

    Raises:
        UserError: some are gone.
    """
    wanted = {f"{shard.name}.{suffix}" for shard in manifest.shards for suffix in ("tar", "parquet")}
    if gone := sorted(wanted - set(store.names())):
        raise UserError(
            f"{store.url} is complete by its {NAME}, but lacks {len(gone)} files, e.g. {gone[0]}; "
            "restore them, or delete the dataset and pack it again"
        )


def in_parallel(call: Callable[[str], T], names: list[str]) -> list[T]:
    """`call` of each name, in their order, on threads that end at the first error."""
    pool = ThreadPoolExecutor(_READERS)
    try:
        return list(pool.map(call, names))
    finally:
        pool.shutdown(cancel_futures=True)


def read_facts(data: bytes) -> Facts | None:
    """What a shard's index says of it; None where the index is damaged."""
    try:
        return index_facts(data) or None
    except (pa.ArrowInvalid, ValueError):
        return None


def _read(store: Store, plan: str, names: Collection[str], name: str) -> _Shard:
    indexed = f"{name}.tar" in names and f"{name}.parquet" in names
    marker = f"{name}.parquet" if indexed else f"{name}{EMPTY}"
    data = read_if_there(store, marker)
    if data is None:
        raise _GoneError
    facts = read_facts(data) if indexed else read_marker(data)
    if facts is None or facts.get("plan") != plan:
        what = "is damaged" if facts is None else "is of another run"
        raise UserError(f"{store.url}/{marker} {what}; delete it and run python -m pack again")
    if not indexed:
        return _Shard(None, facts["rejected"])
    fields = {field: facts[field] for field in ("name", "pairs", "bytes", "sha256")}
    entry = ShardEntry(**fields, index_sha256=hashlib.sha256(data).hexdigest())
    return _Shard(entry, facts["rejected"])


def write_marker(store: Store, name: str, plan: str, rejected: list[dict[str, Any]]) -> None:
    """Notes that all items of a shard were rejected, so that there is nothing to write."""
    facts = {"plan": plan, "rejected": rejected}
    put(store, f"{name}{EMPTY}", json.dumps(facts, sort_keys=True).encode())


def read_marker(data: bytes) -> Facts | None:
    """What `write_marker` noted; None where it is damaged."""
    try:
        facts = json.loads(data)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) else None


def _publish(store: Store, claim: Claim, shards: list[_Shard], names: Collection[str]) -> None:
    """Publishes the list of rejected images and, last of all, the manifest."""
    rejected = [one for shard in shards for one in shard.rejected]
    entries = tuple(shard.entry for shard in shards if shard.entry)
    if not entries:
        _tidy(store, names)
        told = f"none of {len(rejected)} images became a pair: {causes(rejected)}"
        raise NoPairsError(f"{store.url}: {told}")
    provenance = claim.provenance | {"plan": claim.plan}
    manifest = Manifest(
        name=claim.name, split=claim.split, shards=entries, rejected=len(rejected), provenance=provenance
    )
    if rejected:
        put(store, REJECTED, "".join(json.dumps(one, sort_keys=True) + "\n" for one in rejected).encode())
    elif REJECTED in names:  # of a completion that was stopped before its manifest
        store.remove(REJECTED)
    put(store, NAME, manifest.to_json().encode(), create=True)
    _tidy(store, names)
    _report(store, manifest, rejected)


def _tidy(store: Store, names: Collection[str]) -> None:
    """Removes what only an unfinished dataset needs; the claim last, as long as it is there this is due."""
    for name in sorted(name for name in names if name.startswith("shard-") and name.endswith(EMPTY)):
        store.remove(name)
    if PLAN in names:
        store.remove(PLAN)


def _report(store: Store, manifest: Manifest, rejected: list[dict[str, Any]]) -> None:
    size = f"{counted(len(manifest.shards), 'shard')}, {manifest.bytes / 1e6:.1f} MB"
    _LOG.info("%s in %s -> %s", counted(manifest.pairs, "pair"), size, store.url)
    if rejected:
        what, where = counted(len(rejected), "image"), f"{store.url}/{REJECTED}"
        _LOG.warning("%s rejected, listed in %s: %s", what, where, causes(rejected))


def causes(rejected: list[dict[str, Any]], shown: int = 3) -> str:
    """The most frequent causes, e.g. ``12x zero bytes; 3x CMYK image, ...``."""
    counts = Counter(one["cause"] for one in rejected).most_common()
    more = f"; and {len(counts) - shown} other causes" if len(counts) > shown else ""
    return "; ".join(f"{count}x {cause}" for cause, count in counts[:shown]) + more
