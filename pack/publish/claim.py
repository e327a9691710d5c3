"""The claim on an output: ``plan.json``, which says what is being written there until it is complete.

Every process of a run leaves the same claim or finds it there. It holds all that completing the
dataset needs beside the shards, so that any process can do that, on any machine.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pack.plan.plan import Plan, shard_name
from pack.shard.manifest import NAME, Manifest, read_manifest
from pack.storage import BusyError, Store
from recon.base.errors import MissingError, UserError
from recon.base.options import MAX_THREADS

PLAN = "plan.json"
"""Stands in an unfinished dataset."""

EMPTY = ".empty"
"""Suffix of the marker of a shard whose items were all rejected; it holds them."""

_OF_OTHERS = "of other images, options or versions"
_PATIENCE_S = 30.0  # with another process that publishes the same small object
_LOOKS = 5  # at an output that other processes change meanwhile


class OtherDatasetError(UserError):
    """An output holds another dataset than the one that is to be packed, or a part of one."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is being written."""

    plan: str
    """`Plan.sha256`."""
    name: str
    """Of the dataset, part of every pair's id."""
    split: str | None
    shards: int
    """How many, those that may turn out to be empty included."""
    provenance: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan, split: str | None) -> "Claim":
        """The claim of a plan."""
        return cls(
            plan=plan.sha256,
            name=plan.dataset,
            split=split,
            shards=len(plan.shards),
            provenance=plan.provenance,
        )

    @property
    def names(self) -> list[str]:
        """The stems of all shards' files."""
        return [shard_name(number) for number in range(self.shards)]

    def to_json(self) -> str:
        """The text of ``plan.json``."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def read_claim(store: Store) -> Claim | None:
    """Reads the claim on an unfinished dataset; None where there is none.

    Raises:
        UserError: it is of another version.
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
    """Leaves the claim in the output, or finds it there.

    Returns:
        Whether the dataset is complete already, so that nothing is to be done.

    Raises:
        OtherDatasetError: the output holds another dataset, which is left alone.
        UserError: it holds shards that nobody claims.
    """
    for _ in range(_LOOKS):
        there = held(store, ours)
        if there is not None:
            return there == "complete"
        _leave(store, ours.to_json().encode())
    raise _restless(store)


def held(store: Store, ours: Claim) -> Literal["complete", "begun"] | None:
    """What an output holds of the dataset of a claim; None where it holds nothing.

    Raises:
        OtherDatasetError: it holds another dataset.
        UserError: it holds shards that nobody claims.
    """
    text = ours.to_json().encode()
    for look in range(_LOOKS):
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
        if look and PLAN not in names:  # a second look: others may have claimed it amid the first
            raise UserError(f"{store.url} holds shards of another run; choose another --out or delete it")
    raise _restless(store)


def _restless(store: Store) -> UserError:
    return UserError(f"{store.url} is changed by others all the time; choose another --out")


def is_begun(store: Store) -> bool:
    """Whether the output holds a dataset, complete or not."""
    return store.exists(PLAN) or store.exists(
        NAME
    )  # in this order: the claim goes when the manifest is there


def _leave(store: Store, text: bytes) -> None:
    """Publishes the claim, unless there is one: whose it is, the next look tells."""
    try:
        put(store, PLAN, text, create=True)
    except UserError:
        if not store.exists(PLAN):
            raise


def read_if_there(store: Store, name: str) -> bytes | None:
    """An object that another process may remove at any time; None where it is not, or no more."""
    if not store.exists(name):
        return None
    try:
        return store.read(name)
    except UserError:
        if store.exists(name):
            raise
        return None


def size_if_there(store: Store, name: str) -> int | None:
    """Bytes of an object; None where there is none."""
    try:
        return store.size(name)
    except MissingError:
        return None


def completed(store: Store, ours: Claim) -> Manifest | None:
    """The manifest of the dataset of a claim; None where there is none yet.

    Raises:
        OtherDatasetError: it is that of another plan.
    """
    if not store.exists(NAME):
        return None
    manifest = read_manifest(store)
    if manifest.provenance.get("plan") != ours.plan:
        raise _other(store, f"another dataset ({_OF_OTHERS})", manifest.provenance, ours)
    return manifest


def claimed_threads(store: Store) -> int | None:
    """The autoencoder's threads by which an output was begun or made; None where it does not tell."""
    claim = read_claim(store)
    if claim is not None:
        return _threads(claim.provenance)
    return _threads(read_manifest(store).provenance) if store.exists(NAME) else None


def _threads(provenance: Mapping[str, Any]) -> int | None:
    options = provenance.get("options")
    threads = options.get("threads") if isinstance(options, dict) else None
    return threads if isinstance(threads, int) and 0 < threads <= MAX_THREADS else None


def _provenance(claim: bytes) -> dict[str, Any]:
    """That of a claim as it lies in the store; empty where it is of another version."""
    try:
        return Claim(**json.loads(claim)).provenance
    except (ValueError, TypeError):
        return {}


def _other(store: Store, what: str, theirs: dict[str, Any], ours: Claim) -> OtherDatasetError:
    """Names the number of threads where that is all that differs."""
    end = "choose another --out or delete it"
    before, now = _threads(theirs), _threads(ours.provenance)
    if before != now and _without_threads(theirs) == _without_threads(ours.provenance):
        return OtherDatasetError(
            f"{store.url} was begun with --threads {before}, which its bytes depend on, and this run has "
            f"--threads {now}; leave --threads out, which takes over what is there, or {end}"
        )
    return OtherDatasetError(f"{store.url} holds {what}; {end}")


def _without_threads(provenance: dict[str, Any]) -> dict[str, Any]:
    """As it lies in the store, without what follows from the number of threads."""
    plain: dict[str, Any] = json.loads(json.dumps(provenance))
    plain.pop("plan", None)
    made_by = plain.get("autoencoder")
    for part in (plain.get("options"), *(made_by if isinstance(made_by, list) else [made_by])):
        if isinstance(part, dict):
            part.pop("threads", None)
    return plain


def put(store: Store, name: str, data: bytes, *, create: bool = False) -> None:
    """Publishes a small object; waits for another process that is publishing it too.

    Args:
        store: where.
        name: of the object.
        data: its bytes.
        create: refuse to replace an object of other content.
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
