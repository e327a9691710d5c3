"""Finds out before the work whether its results can be written."""

import os
from contextlib import suppress

from pack.storage import open_store
from recon.base.errors import UserError
from recon.base.paths import exists, expanded, is_dir, split_path

_PROBE = "can-be-written.probe"


def check_writable(*files: str | None) -> None:
    """Writes an empty object beside each file to come, and removes it.

    Args:
        files: paths or URLs; None for a file that is not asked for.

    Raises:
        UserError: one of them is a folder, or nothing can be written there.
    """
    for folder in sorted({_folder_of(file) for file in files if file is not None}):
        store = open_store(folder)
        with store.publish(_PROBE):
            pass
        with suppress(UserError):  # who may write may not always remove
            store.remove(_PROBE)


def _folder_of(file: str) -> str:
    file = file if "://" in file else str(expanded(file))
    if is_dir(file):
        raise UserError(f"can't write {file}: it is a folder; name a file in it")
    folder = split_path(file)[0]
    while "://" not in folder and not exists(folder):  # on disk it will be made; here nothing is left behind
        folder = os.path.dirname(folder.rstrip("/")) or "."
    return folder
