"""Completes a dataset whose shards are all there: writes rejected.jsonl, the card and, last, the manifest.

Any process may do it, also several at once: everything they need lies in the store, so all of them write
the same bytes, and a process that comes later finds the dataset complete.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pack.card.card import CARD
from pack.card.update import new_card, new_card_above
from pack.publish.claim import EMPTY, Claim, completed, put, read_if_there
from pack.publish.report import report
from pack.shard.index import known_facts, read_index
from pack.shard.manifest import LISTED, NAME, PLAN, Manifest, ShardEntry
from pack.shard.rejected import REJECTED, rejected_bytes
from pack.storage import Store, open_store
from recon.base.errors import UserError
from recon.base.rejections import causes, images_in, won_by_converting

_READERS = 16  # threads that read small objects; a bucket needs about 30 ms to answer
_LOOKS = 5  # times that a store is listed again because other processes change it meanwhile

T = TypeVar("T")
Facts = dict[str, Any]  # kept in a finished shard's index: name, pairs, bytes, sha256, rejected, plan
TRACES = "traces"
"""There too, if there are any: how many pairs have each value of `pack.shard.pair.Pair.traces`."""


@dataclass(frozen=True)
class _Shard:
    """What the manifest needs to know about a shard."""

    entry: ShardEntry | None
    """None if all of its items were rejected."""
    rejected: list[dict[str, Any]]
    converted: Counter[str] = field(default_factory=Counter)
    """Its pairs by the values of the index column ``converted``, and by their traces."""


class NoPairsError(UserError):
    """None of a dataset's images became a pair. There is no dataset, and claim and markers are removed."""


class _GoneError(Exception):
    """A listed object is gone: another process completed the dataset and removed its markers."""


def is_published(name: str, names: Collection[str]) -> bool:
    """Whether the names in a store show that a shard is finished or known to be empty.

    Args:
        name: file name of the shard, without suffix.
        names: all names in the store.
    """
    return (f"{name}.tar" in names and f"{name}.parquet" in names) or f"{name}{EMPTY}" in names


def finish(store: Store, claim: Claim) -> list[str]:
    """Completes the dataset if all of its shards are there.

    Returns:
        The file names, without suffix, of the missing shards; empty if the dataset is complete now.

    Raises:
        NoPairsError: none of the images became a pair.
        UserError: a shard can't be read, belongs to another run, or was lost later.
    """
    for _ in range(_LOOKS):
        names = set(store.names())
        if NAME in names and (manifest := completed(store, claim)):
            check_files(store, manifest)
            _tidy(store, names)  # a process that was killed after its manifest left these files
            return []
        missing = [name for name in claim.names if not is_published(name, names)]
        if missing:
            return missing
        try:
            shards = in_parallel(partial(_read, store, claim.plan, names), claim.names)
        except _GoneError:
            continue  # the next look finds the other process's manifest
        _publish(store, claim, shards, names)
        return []
    raise UserError(f"{store.url}: other processes keep changing it; run python -m pack.finish again")


def put_card_above(url: str, splits: Iterable[str]) -> None:
    """Publishes the card of all splits of a dataset in the folder above them, once all are finished."""
    if text := new_card_above(url, splits):
        put(open_store(url), CARD, text)


def check_files(store: Store, manifest: Manifest) -> None:
    """Checks that all files of a complete dataset exist. It does not read them; pack.verify does.

    Raises:
        UserError: some are missing.
    """
    suffixes = ("tar", "parquet", *(["hints"] if manifest.hints_beside else []))
    wanted = {f"{shard.name}.{suffix}" for shard in manifest.shards for suffix in suffixes}
    if gone := sorted(wanted - set(store.names())):
        raise UserError(
            f"{store.url} is complete according to its {NAME}, but lacks {len(gone)} files, e.g. {gone[0]}; "
            "restore them, or delete the dataset and pack it again"
        )


def in_parallel(call: Callable[[str], T], names: list[str]) -> list[T]:
    """Calls `call` with each name, on threads; returns the results in the order of the names."""
    pool = ThreadPoolExecutor(_READERS)
    try:
        return list(pool.map(call, names))
    finally:
        # After an error, calls that have not begun are dropped, so the error shows at once.
        pool.shutdown(cancel_futures=True)


def read_facts(data: bytes) -> Facts | None:
    """The facts of a shard that its index records; None if the index is damaged."""
    return known_facts(data) or None


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
    return _Shard(entry, facts["rejected"], _converted(data) + Counter(facts.get(TRACES, {})))


def _converted(index: bytes) -> Counter[str]:
    column = read_index(index, ["converted"])["converted"]
    return Counter(
        {one["values"]: one["counts"] for one in column.value_counts().to_pylist() if one["values"]}
    )


def write_marker(store: Store, name: str, plan: str, rejected: list[dict[str, Any]]) -> None:
    """Records that all items of a shard were rejected: the marker takes the place of its tar and index."""
    facts = {"plan": plan, "rejected": rejected}
    put(store, f"{name}{EMPTY}", json.dumps(facts, sort_keys=True).encode())


def read_marker(data: bytes) -> Facts | None:
    """The facts that `write_marker` recorded; None if the marker is damaged."""
    try:
        facts = json.loads(data)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) else None


def _publish(store: Store, claim: Claim, shards: list[_Shard], names: Collection[str]) -> None:
    """Publishes the list of rejected images and the card, then the manifest."""
    rejected = [one for shard in shards for one in shard.rejected]
    entries = tuple(shard.entry for shard in shards if shard.entry)
    if not entries:
        _tidy(store, names)
        told = f"none of {images_in(rejected)} images became a pair: {causes(rejected)}"
        told += won_by_converting(rejected)
        raise NoPairsError(f"{store.url}: {told}")
    provenance = claim.provenance | {"plan": claim.plan}
    manifest = Manifest(
        name=claim.name,
        split=claim.split,
        shards=entries,
        rejected=len(rejected),
        provenance=provenance,
        fields=claim.fields,
        tabled=len(entries) > LISTED,
    )
    if rejected:
        put(store, REJECTED, rejected_bytes(rejected))
    elif REJECTED in names:  # left by an earlier completion that stopped before its manifest
        store.remove(REJECTED)
    if text := new_card(store, manifest, names):
        put(store, CARD, text)
    # Last, and only if there is none: from here on readers take the dataset as complete.
    for name, data in manifest.files():
        put(store, name, data, create=name == NAME)
    _tidy(store, names)
    report(store, manifest, rejected, sum((shard.converted for shard in shards), Counter()))


def _tidy(store: Store, names: Collection[str]) -> None:
    """Removes the files that only an unfinished dataset needs."""
    # The claim goes last: as long as it is there, a process that finds it repeats this.
    for name in sorted(name for name in names if name.startswith("shard-") and name.endswith(EMPTY)):
        store.remove(name)
    if PLAN in names:
        store.remove(PLAN)
