"""``dataset.json``: what a dataset holds, and the hash that readers pin."""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pack.shard.names import fake_name
from pack.shard.verified_read import read_verified
from pack.storage import Store, open_store
from recon.base.errors import MissingError, UserError
from recon.base.paths import is_plain_name

FORMAT = "pairstream/2"
OLD_FORMAT = "pairstream/1"
"""Its datasets are read, but no longer written; ``python -m pack.upgrade`` makes them `FORMAT`."""
UPGRADED = "upgraded"
"""In the provenance of a manifest and the facts of an index: what ``python -m pack.upgrade`` has replaced."""
NAME = "dataset.json"
PLAN = "plan.json"
"""The claim of python -m pack (`pack.publish.claim`); only an unfinished dataset has it."""
SPLITS = ("train", "val", "test")
"""If an output has splits, each split is a dataset in a folder of this name."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
# All values of the old format except its shards.
_ABOUT = ("name", "split", "rejected", "provenance", "format")


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard of a dataset."""

    name: str
    """Name of its files without suffix: NAME.tar and NAME.parquet."""
    pairs: int
    bytes: int
    """Size of the tar."""
    sha256: str
    """SHA-256 of the tar."""
    index_sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset: one split in shards."""

    name: str
    """Part of every pair's id."""
    split: str | None
    shards: tuple[ShardEntry, ...]
    rejected: int
    """Number of images listed in ``rejected.jsonl`` next to the manifest."""
    provenance: dict[str, Any]
    """Autoencoder, options and library versions that made it."""
    format: str = FORMAT
    fields: dict[str, str] | None = None
    """The names of ``real``, ``fake`` and, of several, ``fake2``, ... in every sample, such as ``real.jpg``,
    whatever their bytes; None if the names go by the codecs, and for tars that others wrote."""

    @cached_property
    def pairs(self) -> int:
        """Pairs in all shards."""
        return sum(shard.pairs for shard in self.shards)

    @cached_property
    def bytes(self) -> int:
        """Bytes of all tars."""
        return sum(shard.bytes for shard in self.shards)

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
    def has_records(self) -> bool:
        """Whether each KEY.json is as `pack.shard.schema.record_of` says; older and foreign ones are not."""
        return self.format == FORMAT and not {"adopted", UPGRADED} & self.provenance.keys()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the manifest without this field."""
        return hashlib.sha256(_canonical(self._values())).hexdigest()

    def _values(self) -> dict[str, Any]:
        shards = [vars(shard) for shard in self.shards]  # asdict would copy every value of 20,000 shards
        about = {name: getattr(self, name) for name in _about(self.format)}
        return about | {"shards": shards, "pairs": self.pairs, "bytes": self.bytes}

    def to_json(self) -> str:
        """The text of ``dataset.json``."""
        values = self._values() | {"sha256": self.sha256}
        return json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


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
    return _checked(fields, whole, where)


def _about(form: str) -> tuple[str, ...]:
    """The values of a manifest of this format, except its shards."""
    return _ABOUT if form == OLD_FORMAT else (*_ABOUT, "fields")


def _unfinished(url: str) -> UserError:
    """The error for a folder without a manifest; it names a split below that has one."""
    below = [split for split in SPLITS if open_store(f"{url}/{split}").exists(NAME)]
    hint = f"take {url}/{below[0]}" if below else "pack one with python -m pack --out"
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


def _checked(fields: Any, whole: bool, where: str) -> Manifest:
    # The format first: a manifest of another version is not damaged, whatever its hash.
    found = fields.get("format") if isinstance(fields, dict) else None
    if found not in (FORMAT, OLD_FORMAT):
        known = f"{FORMAT!r} or {OLD_FORMAT!r}"
        raise UserError(f"{where}: format {found!r}, expected {known}; pack it again with this version")
    if not whole:
        raise UserError(
            f"{where} was changed after it was written (sha256 differs); restore it or pack again"
        )
    shards = tuple(ShardEntry(**shard) for shard in fields["shards"])
    for shard in shards:
        _check_entry(shard, where)
    if not sum(shard.pairs for shard in shards):
        raise UserError(f"{where} lists no pair; pack the dataset again")
    about = {name: fields[name] for name in _about(found)}
    _check_fields(about.get("fields"), where)
    return Manifest(shards=shards, **about)


def _check_entry(shard: ShardEntry, where: str) -> None:
    """Refuses names that, as parts of paths, would lead into other folders of the storage or the cache."""
    if not is_plain_name(shard.name):
        raise UserError(
            f"{where}: shard {shard.name!r}, expected a plain name such as shard-000000; "
            "pack the dataset again"
        )
    if not (isinstance(shard.sha256, str) and _SHA256.fullmatch(shard.sha256)):
        raise UserError(
            f"{where}: shard {shard.name} has sha256 {shard.sha256!r}, expected 64 hexadecimal digits; "
            "pack the dataset again"
        )


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
