"""What commands share that write new indexes beside tars which stay as they are, the manifest last.

A new index tells by a fact in place of which one it stands. So a run that was stopped goes on.
"""

import logging

from pack.shard.manifest import Manifest
from pack.storage import Store
from recon.base.errors import UserError

_LOG = logging.getLogger(__name__)


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
