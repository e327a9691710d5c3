"""Finds out before the work whether its results can be written, and writes them."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pack.storage import Store, open_store
from pack.storage.local import refuse_special
from recon.base.errors import UserError
from recon.base.paths import exists, expanded, is_dir, one_name, split_path

_PROBE = "can-be-written.probe"


def check_writable(*files: str | None) -> None:
    """Writes an empty object beside each file to come, and removes it.

    Args:
        files: paths or URLs; None for a file that is not asked for.

    Raises:
        UserError: one of them is a folder, or nothing can be written there.
    """
    wanted = [file for file in files if file is not None]
    for folder, file in sorted({_folder_of(file): file for file in reversed(wanted)}.items()):
        store = open_store(folder)
        try:
            with store.publish(_PROBE):
                pass
        except UserError as error:  # nobody knows the probe
            raise type(error)(str(error).replace(str(expanded(folder) / _PROBE), file)) from error
        with suppress(UserError):  # who may write may not always remove
            store.remove(_PROBE)


def write_file(path: str, data: bytes) -> None:
    """Writes a whole file, or nothing.

    Args:
        path: path or URL; a folder that is missing is made.
        data: what the file holds.

    Raises:
        UserError: it can't be written.
    """
    folder, name = split_path(path)
    with open_store(folder).publish(name) as file:
        file.write(data)


def check_apart(outputs: Sequence[str | None], inputs: Iterable[str]) -> None:
    """Refuses to write over what is read, or twice to one place.

    Args:
        outputs: paths or URLs; None for one that is not asked for.
        inputs: paths or URLs.

    Raises:
        UserError: an output is an input, or another output.
    """
    read = {one_name(one): one for one in inputs}
    written: set[str] = set()
    for output in outputs:
        if output is None:
            continue
        place = one_name(output)
        if place in read:
            raise UserError(
                f"{output} would be written over {read[place]}, which is read; choose another name"
            )
        if place in written:
            raise UserError(f"{output} would be written twice; choose different names")
        written.add(place)


def refuse_results(store: Store, name: str, command: str) -> None:
    """Refuses a place that holds the results of another command, some of which would be replaced.

    Raises:
        UserError: `name` is there.
    """
    if store.exists(name):
        raise UserError(f"{store.url} holds the results of {command}; choose another --out")


def _folder_of(file: str) -> str:
    """The folder of a file to come, or the one above it that is there."""
    file = file.removeprefix("file://")
    file = file if "://" in file else str(expanded(file))
    if is_dir(file):
        raise UserError(f"can't write {file}: it is a folder; name a file in it")
    folder = split_path(file)[0]
    if "://" in file:
        return folder
    refuse_special(Path(file))
    _refuse_name(file, file)
    while not exists(folder):  # it will be made; here nothing is left behind
        _refuse_name(folder, file)
        folder = os.path.dirname(folder.rstrip("/")) or "."
    if not is_dir(folder):
        raise UserError(f"can't write {file}: {folder} is a file, expected a folder")
    return folder


def _refuse_name(path: str, file: str) -> None:
    """UserError if nothing can be made at a path where nothing is found."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"can't write {file}: {path}: {error.strerror}") from error
    if path != file and not exists(path):  # a file takes the place of a link, a folder does not
        raise UserError(f"can't write {file}: {path} is a link that leads nowhere, expected a folder")
