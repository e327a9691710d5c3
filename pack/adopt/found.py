"""Collects what a pass over the tars of a directory finds, and words its error messages."""

from dataclasses import dataclass, field
from typing import Any

from pack.shard.manifest import ShardEntry
from recon.base.errors import UserError
from recon.base.progress import counted
from recon.base.walk import LeftOut

_SHOWN = 3  # samples in a message


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

    def reject(self, key: str, tar: str, cause: str) -> None:
        """Records a sample that is no pair."""
        self.rejected.append({"path": key, "tile": None, "cause": cause, "shard": tar})

    def complaint(self) -> str:
        """The error text: the number of rejected samples, and the first few with their causes."""
        shown = "; ".join(
            f"{one['path']} in {one['shard']}.tar: {one['cause']}" for one in self.rejected[:_SHOWN]
        )
        more = "; ..." if len(self.rejected) > _SHOWN else ""
        return f"{self.where}: {counted(len(self.rejected), 'sample')} can't be used ({shown}{more})"
