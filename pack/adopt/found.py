"""Collects what a pass over the tars of a directory finds, and words its error messages."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pack.adopt.rows import NoFieldError, OddImageError
from pack.shard.manifest import ShardEntry
from recon.base.errors import RejectedImageError, UserError
from recon.base.progress import counted
from recon.base.walk import LeftOut

_SHOWN = 3  # samples in a message
_FIELDS = 32  # other fields than the images that are listed, if not every pair has them
_UNPACK = (
    "unpack them, real images and fakes into two folders under equal names, and pack these with python "
    "-m pack --source REALS --reconstructions FAKES"
)


@dataclass(kw_only=True)
class Found:
    """The tars read so far, and their samples."""

    where: str
    """The directory's URL."""
    entries: list[ShardEntry] = field(default_factory=list)
    """Entries of the tars that have pairs."""
    empty: list[str] = field(default_factory=list)
    """Names of the tars that have no pairs."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """Samples that are no pairs, as lines of rejected.jsonl."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Members that are no part of a sample, and that their owner may miss."""
    lacks_fields: bool = False
    """Whether a rejected sample has no image of the names that were given."""
    has_odd: bool = False
    """Whether a rejected sample has an image that packing may take."""
    _fields: tuple[Counter[str], ...] = field(default_factory=lambda: (Counter(), Counter(), Counter()))
    _tar_of_key: dict[str, str] = field(default_factory=dict)  # all keys, as each must be unique

    def add_key(self, key: str, tar: str, start: int) -> None:
        """Records the key of a sample.

        Args:
            key: key of the sample.
            tar: name of its tar, without suffix.
            start: offset in bytes of its first payload.

        Raises:
            UserError: an earlier sample has the same key.
        """
        other = self._tar_of_key.get(key)
        if other == tar:
            raise UserError(
                f"{self.where}/{tar}.tar: key {key} comes again at byte {start} after other keys; expected "
                "each key once, with the members of a pair next to each other so that one read gets them; "
                "write the tar again in the order of its names (tar --sort=name)"
            )
        if other is not None:
            raise UserError(
                f"{self.where}: key {key} is in {other}.tar and in {tar}.tar; expected each key once in the "
                "dataset; rename one of them, or move one tar to another directory, as a dataset of its own"
            )
        self._tar_of_key[key] = tar

    def add_fields(self, names: Sequence[str]) -> None:
        """Records how the members of a pair are named: the real image, the fake, all others."""
        for counts, some in zip(self._fields, (names[:1], names[1:2], names[2:]), strict=True):
            counts.update(some)

    def fields(self, real: Sequence[str], fake: Sequence[str]) -> dict[str, Any]:
        """The names of the pairs' members as they stand in the tars, for the provenance.

        Args:
            real: the names that were given for the real image, in small letters; earlier ones go first.
            fake: those for the reconstruction.

        Returns:
            ``real`` and ``fake``, in the order in which they are looked for, and how often there is each of
            ``other``.
        """
        reals, fakes, other = self._fields
        kept = other if len(other) <= _FIELDS else _in_all(other, reals.total())  # rest: parts of keys
        of_images = {*reals, *fakes}
        return {
            "real": _ordered(reals, real),
            "fake": _ordered(fakes, fake),
            "other": {name: count for name, count in sorted(kept.items()) if name not in of_images},
        }

    def reject(self, key: str, tar: str, cause: RejectedImageError) -> None:
        """Records a sample that is no pair."""
        self.rejected.append({"path": key, "tile": None, "cause": str(cause), "shard": tar})
        self.lacks_fields |= isinstance(cause, NoFieldError)
        self.has_odd |= isinstance(cause, OddImageError)

    def complaint(self) -> str:
        """The error text: the number of rejected samples, and the first few with their causes."""
        shown = "; ".join(
            f"{one['path']} in {one['shard']}.tar: {one['cause']}" for one in self.rejected[:_SHOWN]
        )
        more = "; ..." if len(self.rejected) > _SHOWN else ""
        return f"{self.where}: {counted(len(self.rejected), 'sample')} can't be used ({shown}{more})"

    def advice_on_names(self, real: str, fake: str) -> str:
        """What can be done if no sample has fields of these names."""
        named = f"name the fields by --real and --fake, now {real} and {fake}"
        return f"{named}; or, where folders tell the images of a pair apart, {_UNPACK}"

    def advice(self) -> str:
        """What can be done about the rejected samples."""
        odd = f"; or {_UNPACK} --convert true" if self.has_odd else ""
        return f"repair the tars{odd}; or leave the samples out by --skip_incomplete true"


def _ordered(counts: Iterable[str], given: Sequence[str]) -> list[str]:
    return sorted(counts, key=lambda name: (given.index(name.lower()), name))


def _in_all(counts: Counter[str], pairs: int) -> Counter[str]:
    return Counter({name: count for name, count in counts.items() if count == pairs})
