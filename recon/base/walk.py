"""Walks a local folder. All commands find files by these rules, and count what the rules leave out.

Hidden names are left out, and so is all that is no regular file: reading a pipe, for example, would wait for
ever. Links to files are followed; links to folders only where the caller names them, because a link may lead
into a folder that is searched already.
"""

import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.base.errors import MissingError, UserError
from recon.base.paths import printable

HIDDEN = "hidden names"
"""What `LeftOut` counts names as that start with a dot."""

_NO_FILE = -1  # stands for the size of what is no file: a link to a folder, a pipe, a device
_SHOWN = 5  # causes in a message

Files = Iterator[tuple[str, int | None]]
"""Name and size in bytes of each file; the size is None if the listing does not give it."""

Leave = Callable[[str, str], None]
"""Called with the cause, a plural such as `HIDDEN`, and the name of each thing that is left out."""


class LeftOut:
    """Counts what a listing leaves out, with an example of each cause."""

    def __init__(self) -> None:
        self._causes: dict[str, tuple[int, str]] = {}

    def add(self, cause: str, name: str, count: int = 1) -> None:
        """Counts one more name, or several with one example; see `Leave`."""
        before, example = self._causes.get(cause, (0, name))
        # The first name in order: folders are listed in any order, but a message should not change.
        self._causes[cause] = before + count, min(example, name)

    def causes(self) -> dict[str, tuple[int, str]]:
        """How many names there are of each cause, and an example."""
        return dict(self._causes)

    def __str__(self) -> str:
        """The causes, most frequent first, e.g. ``hidden names: 3 (e.g. .a)``; empty if there are none."""
        found = sorted(self._causes.items(), key=lambda one: (-one[1][0], one[0]))
        texts = [f"{cause}: {count} (e.g. {printable(name)})" for cause, (count, name) in found[:_SHOWN]]
        more = sum(count for _, (count, _) in found[_SHOWN:])
        return "; ".join([*texts, f"others: {more}"] if more else texts)


def sum_of(parts: Iterable[LeftOut]) -> LeftOut:
    """What several listings have left out."""
    total = LeftOut()
    for part in parts:
        for cause, (count, example) in part.causes().items():
            total.add(cause, example, count)
    return total


def is_hidden(name: str) -> bool:
    """Whether the last part of a name starts with a dot, as a tar or a bucket may hold it."""
    return name.rpartition("/")[2].startswith(".")


def tell_nobody(cause: str, name: str) -> None:
    """Stands for a `Leave` where nobody wants to know."""


def walk(root: Path, links: Container[str] = (), leave: Leave = tell_nobody) -> Files:
    """Yields name and size in bytes of all files below a folder, at any depth, in any order.

    Args:
        root: the folder.
        links: names of folders that are entered even if they are links.
        leave: is told what is left out.

    Yields:
        The name, relative to `root`, with ``/`` between its parts. The size is None for a link to a missing
        file: it may stand for an image, which the caller has to reject.

    Raises:
        MissingError: the folder does not exist.
        UserError: a folder can't be listed; or a link with one of the names `links` leads nowhere, or to a
            folder that contains it.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        with listing(root / prefix), os.scandir(root / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.name.startswith("."):
                    leave(HIDDEN, name)
                elif entry.is_dir(follow_symlinks=entry.name in links):
                    _refuse_circle(entry)
                    pending.append(f"{name}/")
                elif (size := _file_size(entry)) == _NO_FILE:
                    leave("links to folders" if entry.is_dir() else "pipes, sockets, devices", name)
                elif size is None and "." not in entry.name:  # it led to a folder, by its look
                    _refuse_lost(entry, links)
                    leave("links that lead nowhere", name)
                else:
                    yield name, size


@contextmanager
def listing(where: Path) -> Iterator[None]:
    """Turns the OSErrors of listing a folder into UserErrors."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(f"{where} not found; check the path or URL") from error
    except OSError as error:
        raise UserError(f"can't list {error.filename or where}: {error.strerror or error}") from error


def _refuse_circle(folder: "os.DirEntry[str]") -> None:
    """Refuses a link to a folder that the link lies in: a walk would go round until the path is too long."""
    if folder.is_symlink():
        target, here = os.path.realpath(folder.path), os.path.realpath(os.path.dirname(folder.path))
        if os.path.commonpath([target, here]) == target:
            raise UserError(f"{folder.path} is a link to a folder that contains it; remove the link")


def _refuse_lost(link: "os.DirEntry[str]", links: Container[str]) -> None:
    """Refuses a link that leads nowhere, if it stands for a folder that the caller needs."""
    if link.name in links:
        raise UserError(f"{link.path} is a link that leads nowhere; repair or remove it")


def _file_size(entry: "os.DirEntry[str]") -> int | None:
    """Bytes of a file, or of the file that a link leads to; None for a link to a missing file."""
    try:
        found = entry.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else _NO_FILE
