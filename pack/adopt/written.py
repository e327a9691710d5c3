"""What is written beside tars that stay as they are: new files, and indexes in place of others.

Files of a run that does not come to its end go again (`Written`). An index that replaces another tells by
a fact in place of which one it stands, so a run that was stopped goes on.
"""

import logging
from collections.abc import Collection
from contextlib import suppress

from pack.shard.hints import is_hint_file
from pack.shard.index import known_facts
from pack.shard.manifest import NAME, Manifest
from pack.shard.names import hints_name
from pack.shard.rejected import REJECTED
from pack.storage import Store
from recon.base.errors import UserError

_LOG = logging.getLogger(__name__)


class Written:
    """What this run has written, and what a killed run left: indexes and hints without a manifest.

    Args:
        store: the directory of the tars.
        present: the names of all files there.
    """

    def __init__(self, store: Store, present: Collection[str]) -> None:
        self.store = store
        tars = [name.removesuffix(".tar") for name in present if name.endswith(".tar")]
        files = [file for tar in tars for file in (f"{tar}.parquet", hints_name(tar)) if file in present]
        self._left = {file for file in files if self._is_ours(file)}
        self._foreign = {*files} - self._left
        if self._left:
            self._left |= {REJECTED} & {*present}
        self._new: set[str] = set()

    def refuse_foreign(self, tars: Collection[str]) -> None:
        """Raises an error if the index or the hints of one of these tars would replace a file of others."""
        names = {file for tar in tars for file in (f"{tar}.parquet", hints_name(tar))}
        if found := sorted(names & self._foreign):
            raise UserError(
                f"{self.store.url}/{found[0]} is not of python -m pack.index, which would replace it; "
                "move this file, or move the tars to another directory"
            )

    def put(self, name: str, data: bytes, *, create: bool = False) -> None:
        """Publishes a file; for `create` see `Store.publish`."""
        self._new.add(name)  # first: an interrupt may come between the file and the next line
        with self.store.publish(name, create=create) as file:
            file.write(data)

    def settle(self) -> None:
        """Removes what a killed run left and this one did not replace; called before the manifest is written.

        Raises:
            UserError: another process has removed files of this run.
        """
        for name in sorted(self._left - self._new):
            self.store.remove(name)
        if gone := sorted(self._new - set(self.store.names())):
            raise UserError(
                f"{self.store.url}/{gone[0]} is gone: another process indexed these tars and gave up; "
                "run one at a time, and give this command again"
            )

    def undo(self) -> None:
        """Removes all that is left without a manifest; readers would take indexes for data."""
        with suppress(UserError, OSError):  # what ended the run is told; the next run replaces what stays
            if not self.store.exists(NAME):
                for name in sorted(self._left | self._new):
                    self.store.remove(name)

    def _is_ours(self, name: str) -> bool:
        if name.endswith(".parquet"):
            return "adopted" in (known_facts(self.store.read(name)) or {})
        return is_hint_file(self.store, name)


def not_of_manifest(url: str) -> UserError:
    """The error that an index is neither the one in the manifest nor written in its place."""
    return UserError(f"{url} differs from the manifest (sha256); restore it, or pack the dataset again")


def replace_manifest(store: Store, before: Manifest, after: Manifest) -> None:
    """Publishes a manifest in place of another."""
    for name, data in after.files():
        with store.publish(name) as file:
            file.write(data)
    if before.table_name and before.table_name != after.table_name:
        store.remove(before.table_name)


def tell_pinned(before: Manifest, after: Manifest) -> None:
    """Warns of runs that know the manifest by its hash."""
    _LOG.warning(
        "its manifest is now %s; runs that pinned %s can't be resumed on it", after.sha256, before.sha256
    )
