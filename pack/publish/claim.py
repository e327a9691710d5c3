"""The claim on an output: ``plan.json``, which says which dataset is being written there.

Every process of a run writes the same claim or finds it there. The claim and the shards together hold all
that is needed to complete the dataset, so any process on any machine can do that and remove the claim.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pack.plan.plan import Plan, shard_name
from pack.shard.manifest import NAME, PLAN, Manifest, read_manifest
from pack.storage import BusyError, Store
from recon.base.errors import MissingError, UserError
from recon.base.options import MAX_THREADS

EMPTY = ".empty"
"""Suffix of the marker of a shard whose items were all rejected; the marker lists them."""

_OF_OTHERS = "of other images, options or versions"
_PATIENCE_S = 30.0  # waits this long for another process that publishes the same small object
_LOOKS = 5  # times that an output is listed again because other processes change it meanwhile


class OtherDatasetError(UserError):
    """The output holds a dataset, or part of one, that differs from the dataset to be packed."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Which dataset is being written."""

    plan: str
    """`Plan.sha256`."""
    name: str
    """Name of the dataset, part of every pair's id."""
    split: str | None
    shards: int
    """Number of planned shards, including those that may turn out to be empty."""
    provenance: dict[str, Any]
    fields: dict[str, str] | None
    """See `pack.shard.manifest.Manifest.fields`."""

    @classmethod
    def of(cls, plan: Plan, split: str | None) -> "Claim":
        """The claim of a plan."""
        return cls(
            plan=plan.sha256,
            name=plan.dataset,
            split=split,
            shards=len(plan.shards),
            provenance=plan.provenance,
            fields=plan.fields,
        )

    @property
    def names(self) -> list[str]:
        """The file names of all shards, without suffix."""
        return [shard_name(number) for number in range(self.shards)]

    def to_json(self) -> str:
        """The text of ``plan.json``."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def read_claim(store: Store) -> Claim | None:
    """Reads the claim on an unfinished dataset; None if there is no claim.

    Raises:
        UserError: another version of pack wrote the claim.
    """
    data = read_if_there(store, PLAN)
    if data is None:
        return None
    try:
        return Claim(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{store.url}/{PLAN} is not of this version of pack ({error}); pack into another --out"
        ) from error


def claim(store: Store, ours: Claim) -> bool:
    """Writes the claim to the output, or finds it there.

    Returns:
        Whether the dataset is complete already, so that there is nothing left to do.

    Raises:
        OtherDatasetError: the output holds another dataset, which stays unchanged.
        UserError: it holds shards without a claim.
    """
    # A loop: the look after the writing tells whose claim is there, ours or that of another process.
    for _ in range(_LOOKS):
        there = held(store, ours)
        if there is not None:
            return there == "complete"
        _leave(store, ours.to_json().encode())
    raise _restless(store)


def held(store: Store, ours: Claim) -> Literal["complete", "begun"] | None:
    """Whether an output holds the dataset of a claim, complete or begun; None if it holds no dataset.

    Raises:
        OtherDatasetError: it holds another dataset.
        UserError: it holds shards without a claim.
    """
    text = ours.to_json().encode()
    for look in range(_LOOKS):
        # The list comes first. A claim is written before any shard, so for each listed shard there is a
        # claim, or the manifest that replaced it, by the time of the reads below.
        names = store.names()
        if completed(store, ours):
            return "complete"
        found = read_if_there(store, PLAN)
        if found == text:
            return "begun"
        if found is not None:
            raise _other(store, f"an unfinished dataset {_OF_OTHERS}", _provenance(found), ours)
        if not any(name.startswith("shard-") for name in names):
            return None
        # Fail only at the second look: during the first, other processes may have completed or claimed it.
        if look and PLAN not in names:
            raise UserError(f"{store.url} holds shards of another run; choose another --out or delete it")
    raise _restless(store)


def _restless(store: Store) -> UserError:
    return UserError(f"{store.url}: other processes keep changing it; choose another --out")


def is_begun(store: Store) -> bool:
    """Whether the output holds a dataset, complete or not."""
    # In this order: a process that completes the dataset writes the manifest before it removes the claim.
    return store.exists(PLAN) or store.exists(NAME)


def _leave(store: Store, text: bytes) -> None:
    """Publishes the claim unless the output has one; the caller then looks whose claim it is."""
    try:
        put(store, PLAN, text, create=True)
    except UserError:
        if not store.exists(PLAN):  # a fault of the storage, not a claim of another process
            raise


def read_if_there(store: Store, name: str) -> bytes | None:
    """Reads an object that another process may remove at any time; None if it is not there."""
    if not store.exists(name):
        return None
    try:
        return store.read(name)
    except UserError:
        if store.exists(name):
            raise
        return None  # it was removed between the two calls


def size_if_there(store: Store, name: str) -> int | None:
    """Size of an object in bytes; None if it is not there."""
    try:
        return store.size(name)
    except MissingError:
        return None


def completed(store: Store, ours: Claim) -> Manifest | None:
    """The manifest of the dataset of a claim; None if it is not written yet.

    Raises:
        OtherDatasetError: the manifest there belongs to another plan.
    """
    if not store.exists(NAME):
        return None
    manifest = read_manifest(store)
    if manifest.provenance.get("plan") != ours.plan:
        raise _other(store, f"another dataset ({_OF_OTHERS})", manifest.provenance, ours)
    return manifest


def claimed_threads(store: Store) -> int | None:
    """The number of autoencoder threads with which an output was begun or made; None if not recorded."""
    claim = read_claim(store)
    if claim is not None:
        return _threads(claim.provenance)
    return _threads(read_manifest(store).provenance) if store.exists(NAME) else None


def _threads(provenance: Mapping[str, Any]) -> int | None:
    options = provenance.get("options")
    threads = options.get("threads") if isinstance(options, dict) else None
    return threads if isinstance(threads, int) and 0 < threads <= MAX_THREADS else None


def _provenance(claim: bytes) -> dict[str, Any]:
    """The provenance in the bytes of a claim; empty if another version of pack wrote the claim."""
    try:
        return Claim(**json.loads(claim)).provenance
    except (ValueError, TypeError):
        return {}


def _other(store: Store, what: str, theirs: dict[str, Any], ours: Claim) -> OtherDatasetError:
    """The error for an output with another dataset; names the threads if nothing else differs."""
    end = "choose another --out or delete it"
    before, now = _threads(theirs), _threads(ours.provenance)
    if before != now and _without_threads(theirs) == _without_threads(ours.provenance):
        return OtherDatasetError(
            f"{store.url} was begun with --threads {before}, which its bytes depend on, and this run has "
            f"--threads {now}; leave --threads out to use the number found there, or {end}"
        )
    return OtherDatasetError(f"{store.url} holds {what}; {end}")


def _without_threads(provenance: dict[str, Any]) -> dict[str, Any]:
    """A provenance without all that follows from the number of threads."""
    # Through JSON: a provenance read from the store has lists where one in memory may have tuples.
    plain: dict[str, Any] = json.loads(json.dumps(provenance))
    plain.pop("plan", None)  # the plan's hash covers the threads
    made_by = plain.get("autoencoder")
    for part in (plain.get("options"), *(made_by if isinstance(made_by, list) else [made_by])):
        if isinstance(part, dict):
            part.pop("threads", None)
    return plain


def put(store: Store, name: str, data: bytes, *, create: bool = False) -> None:
    """Publishes a small object; waits if another process is publishing the same object.

    Args:
        store: the output.
        name: name of the object.
        data: its bytes.
        create: raise an error instead of replacing an object with different content.
    """
    limit = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with store.publish(name, create=create) as file:
                file.write(data)
            return
        except BusyError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.02)
