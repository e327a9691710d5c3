"""What a pass over the tars of a directory has found, and its complaints."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pack.shard.manifest import ShardEntry
from recon.base.errors import UserError
from recon.base.progress import counted

_SHOWN = 3  # samples or causes in a message


@dataclass(kw_only=True)
class Found:
    """The tars read so far, and their samples."""

    where: str
    """The directory's URL."""
    entries: list[ShardEntry] = field(default_factory=list)
    """Of tars that have pairs."""
    empty: list[str] = field(default_factory=list)
    """Tars without."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """Samples that are no pairs, as lines of rejected.jsonl."""
    _tar_of_key: dict[str, str] = field(default_factory=dict)

    def add_key(self, key: str, tar: str, start: int) -> None:
        """Notes the key of a sample.

        Args:
            key: of the sample.
            tar: its tar, without suffix.
            start: byte of its first payload.

        Raises:
            UserError: there was one of this key.
        """
        other = self._tar_of_key.get(key)
        if other == tar:
            raise UserError(
                f"{self.where}/{tar}.tar: key {key} comes again at byte {start} after other keys; expected "
                "the members of a pair side by side, to be read at once, and no key twice; write the tar "
                "again in the order of its names (tar --sort=name)"
            )
        if other is not None:
            raise UserError(
                f"{self.where}: key {key} stands in {other}.tar and in {tar}.tar, expected keys of which the "
                "dataset has one each; rename one, or make two directories of the tars, two datasets"
            )
        self._tar_of_key[key] = tar

    def reject(self, key: str, tar: str, cause: str) -> None:
        """Notes a sample that is no pair."""
        self.rejected.append({"path": key, "tile": None, "cause": cause, "shard": tar})

    def complaint(self) -> str:
        """The number of rejected samples, and the first of them."""
        shown = "; ".join(
            f"{one['path']} in {one['shard']}.tar: {one['cause']}" for one in self.rejected[:_SHOWN]
        )
        more = "; ..." if len(self.rejected) > _SHOWN else ""
        return f"{self.where}: {counted(len(self.rejected), 'sample')} can't be used ({shown}{more})"

    def causes(self) -> str:
        """The most frequent causes of rejection."""
        causes = Counter(one["cause"] for one in self.rejected).most_common()
        more = f"; and {len(causes) - _SHOWN} other causes" if len(causes) > _SHOWN else ""
        return "; ".join(f"{count}x {cause}" for cause, count in causes[:_SHOWN]) + more
