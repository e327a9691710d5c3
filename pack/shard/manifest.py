"""``dataset.json``: what a dataset holds, and the hash that readers pin."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pack.shard.listed.entry import ShardEntry, check_entry
from pack.shard.names import fake_name
from pack.shard.verified_read import read_verified
from pack.storage import Store, open_store
from recon.base.errors import MissingError, UserError

if TYPE_CHECKING:  # imports numpy; few datasets have a table
    from numpy.typing import NDArray

    from pack.shard.listed.table import ShardTable

__all__ = ["FORMAT", "LISTED", "NAME", "OLD_FORMAT", "PLAN", "SPLITS", "UPGRADED", "Manifest", "ShardEntry"]
__all__ += ["ADDED", "FIELDS", "HINTED", "read_manifest"]

Content = bytes

FORMAT = "pairstream/2"
OLD_FORMAT = "pairstream/1"
"""Its datasets are read, but no longer written; ``python -m pack.upgrade`` makes them `FORMAT`."""
TABLE_FORMAT = "pairstream/3"
"""In ``dataset.json`` where a table beside it lists the shards; the shards themselves are of `FORMAT`."""
LISTED = 20_000
"""Datasets of more shards are written with such a table: `pack.shard.listed.table`."""
UPGRADED = "upgraded"
"""In the provenance of a manifest and the facts of an index: what ``python -m pack.upgrade`` has replaced."""
ADDED = "entries"
"""There too: what ``python -m pack.index --entries`` has replaced."""
FIELDS = "fields"
"""In the provenance of a manifest of tars that others wrote: how their members are named."""
HINTED = "hints"
"""In the provenance of a manifest: ``beside`` where hints lie in a file beside each tar."""
NAME = "dataset.json"
PLAN = "plan.json"
"""The claim of python -m pack (`pack.publish.claim`); only an unfinished dataset has it."""
SPLITS = ("train", "val", "test")
"""If an output has splits, each split is a dataset in a folder of this name."""

# All values of the old format except its shards.
_ABOUT = ("name", "split", "rejected", "provenance", "format")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: one split in shards."""

    name: str
    """Part of every pair's id."""
    split: str | None
    shards: Sequence[ShardEntry]
    rejected: int
    """Number of images listed in ``rejected.jsonl`` next to the manifest."""
    provenance: dict[str, Any]
    """Autoencoder, options and library versions that made it."""
    format: str = FORMAT
    fields: dict[str, str] | None = None
    """The names of ``real``, ``fake`` and, of several, ``fake2``, ... in every sample, such as ``real.jpg``,
    whatever their bytes; None if the names go by the codecs, and for tars that others wrote."""
    tabled: bool = False
    """Whether a table beside ``dataset.json`` lists the shards."""

    @cached_property
    def table(self) -> "ShardTable":
        """The shards as a table."""
        from pack.shard.listed.table import ShardTable

        return self.shards if isinstance(self.shards, ShardTable) else ShardTable.of(self.shards)

    def numbers(self, name: Literal["pairs", "bytes"]) -> "NDArray[Any]":
        """(shards,) the pairs (int32) or the bytes of the tar (int64) of each shard."""
        import numpy as np

        if self.tabled:
            return self.table.column(name)
        kind = np.int32 if name == "pairs" else np.int64
        return np.array([getattr(shard, name) for shard in self.shards], kind)

    @cached_property
    def pairs(self) -> int:
        """Pairs in all shards."""
        return int(self.numbers("pairs").sum()) if self.tabled else sum(one.pairs for one in self.shards)

    @cached_property
    def bytes(self) -> int:
        """Bytes of all tars."""
        return int(self.numbers("bytes").sum()) if self.tabled else sum(one.bytes for one in self.shards)

    @cached_property
    def fakes(self) -> int:
        """Reconstructions in each sample."""
        if self.fields:
            return len(self.fields) - 1
        return int(self.provenance.get("options", {}).get("fakes_per_real", 1))

    @property
    def masks(self) -> bool:
        """Whether each sample has a mask of the changed pixels."""
        return bool(self.provenance.get("masks", False))

    @property
    def hints_beside(self) -> bool:
        """Whether hints lie in a file beside each tar, and not in it: `pack.shard.hints`."""
        return self.provenance.get(HINTED) == "beside"

    @property
    def has_records(self) -> bool:
        """Whether each KEY.json is as `pack.shard.schema.record_of` says; older and foreign ones are not."""
        return self.format == FORMAT and not {"adopted", UPGRADED} & self.provenance.keys()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the manifest without this field."""
        return hashlib.sha256(_canonical(self._values())).hexdigest()

    def _values(self) -> dict[str, Any]:
        about = {name: getattr(self, name) for name in _about(self.format)}
        shards: Any = [vars(shard) for shard in self.shards] if not self.tabled else self._table_values
        if self.tabled:
            about["format"] = TABLE_FORMAT
        return about | {"shards": shards, "pairs": self.pairs, "bytes": self.bytes}

    @cached_property
    def _table_values(self) -> dict[str, Any]:
        """What ``dataset.json`` says of the table."""
        sha256 = self.table.sha256
        # A name for each content: a reader who has the manifest from before finds the table from before.
        return {"table": f"dataset-{sha256[:16]}.npy", "sha256": sha256, "count": len(self.shards)}

    @property
    def table_name(self) -> str | None:
        """The file name of the table, if there is one."""
        return self._table_values["table"] if self.tabled else None

    def to_json(self) -> str:
        """The text of ``dataset.json``."""
        values = self._values() | {"sha256": self.sha256}
        return json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    def files(self) -> Iterator[tuple[str, Content]]:
        """Name and bytes of each file of the manifest, in the order to publish them: `NAME` is the last."""
        if self.table_name:
            yield self.table_name, self.table.to_bytes()
        yield NAME, self.to_json().encode()


def read_manifest(store: Store) -> Manifest:
    """Reads and checks ``dataset.json``.

    Raises:
        UserError: it is missing, has another format, was edited, or lists no pair.
    """
    # One deadline for all readings; each alone would otherwise have the full time.
    where, until = f"{store.url}/{NAME}", time.monotonic() + store.retry.deadline_s
    try:
        data, whole = read_verified(lambda until: store.read(NAME, until=until), _is_whole, where, until)
    except MissingError:
        raise _unfinished(store.url) from None
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}; pack the dataset again") from error
    return _checked(fields, whole, store, until)


def _about(form: str) -> tuple[str, ...]:
    """The values of a manifest of this format, except its shards."""
    return _ABOUT if form == OLD_FORMAT else (*_ABOUT, "fields")


def _unfinished(url: str) -> UserError:
    """The error for a folder without a manifest; it names a split below that has one."""
    below = [split for split in SPLITS if open_store(f"{url}/{split}").exists(NAME)]
    hint = (
        f"take {url}/{below[0]}"
        if below
        else "pack one with python -m pack --out, or index its tars with pack.index"
    )
    return UserError(f"{url}/{NAME} not found: {url} is no finished dataset; {hint}")


def _is_whole(data: bytes) -> bool:
    """Whether the content of a manifest has the hash that it states."""
    try:
        fields = json.loads(data)
    except ValueError:
        return False
    if not isinstance(fields, dict):
        return False
    expected = {name: value for name, value in fields.items() if name != "sha256"}
    return hashlib.sha256(_canonical(expected)).hexdigest() == fields.get("sha256")


def _checked(fields: Any, whole: bool, store: Store, until: float) -> Manifest:
    where = f"{store.url}/{NAME}"
    # The format first: a manifest of another version is not damaged, whatever its hash.
    found = fields.get("format") if isinstance(fields, dict) else None
    if found not in (FORMAT, OLD_FORMAT, TABLE_FORMAT):
        known = f"{FORMAT!r}, {TABLE_FORMAT!r} or {OLD_FORMAT!r}"
        raise UserError(f"{where}: format {found!r}, expected {known}; pack it again with this version")
    if not whole:
        raise UserError(
            f"{where} was changed after it was written (sha256 differs); restore it or pack again"
        )
    about = {name: fields[name] for name in _about(found)}
    _check_fields(about.get("fields"), where)
    if found == TABLE_FORMAT:
        shards: Sequence[ShardEntry] = _read_table(store, fields["shards"], until)
        manifest = Manifest(shards=shards, tabled=True, **about | {"format": FORMAT})
    else:
        manifest = Manifest(shards=tuple(ShardEntry(**shard) for shard in fields["shards"]), **about)
        for shard in manifest.shards:
            check_entry(shard, where)
    if not manifest.pairs:
        raise UserError(f"{where} lists no pair; pack the dataset again")
    return manifest


def _read_table(store: Store, said: dict[str, Any], until: float) -> "ShardTable":
    """The table that a manifest names."""
    from pack.shard.listed.table import brought

    name, sha256 = said["table"], said["sha256"]
    where = f"{store.url}/{name}"

    def read() -> bytes:
        data, whole = read_verified(
            lambda until: store.read(name, until=until),
            lambda data: hashlib.sha256(data).hexdigest() == sha256,
            where,
            until,
        )
        if not whole:
            raise UserError(f"{where} differs from {NAME} (sha256); restore it or pack the dataset again")
        return data

    return brought(sha256, read)


def _check_fields(fields: Any, where: str) -> None:
    """Refuses names of images that no reader would find."""
    names = fields if isinstance(fields, dict) else {}
    found = {who: name for who, name in names.items() if str(name).startswith(f"{who}.")}
    expected = {"real", *(fake_name(number) for number in range(max(1, len(names) - 1)))}
    if fields is not None and found.keys() != expected:
        raise UserError(
            f"{where}: fields {fields!r}, expected null or names such as real.jpg and fake.jpg; "
            "pack the dataset again"
        )


def _canonical(fields: dict[str, Any]) -> bytes:
    """One text for equal fields, whatever their order and white space in the file."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
