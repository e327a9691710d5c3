"""Paths and URLs: their folder and name, whether a file is there, and names that data may choose."""

import errno
import os
import re
import stat
from pathlib import Path

from recon.base.errors import UserError

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.ENAMETOOLONG)
_LONGEST_NAME = 200  # bytes; file systems take 255, and a suffix may follow


def split_path(path: str) -> tuple[str, str]:
    """The folder and the name of a file's path or URL.

    Args:
        path: such as ``a.png``, ``/a.png``, ``runs/a.png``, ``s3://bucket/a.png``.

    Returns:
        The folder, which may be opened as it is (``.`` and ``/`` included), and the name.

    Raises:
        UserError: there is no name, or the URL is that of a bucket or host.
    """
    folder, slash, name = path.removeprefix("file://").rpartition("/")
    if name in ("", ".", "..") or folder.endswith(":/"):
        raise UserError(f"{path!r} names no file, expected FOLDER/FILE or URL/FILE")
    return folder or slash or ".", name


def expanded(path: str) -> Path:
    """The path with ``~`` replaced by the home it names; `Path.expanduser` raises for the home of nobody."""
    return Path(os.path.expanduser(path))


def is_plain_name(name: object) -> bool:
    """Whether a name out of a manifest is that of a file or folder in one certain folder: no path."""
    return isinstance(name, str) and not {"/", "\0"} & set(name) and name not in ("", ".", "..")


def safe_name(text: str) -> str:
    """A file's or folder's name made of any text: no separators, no dots at its start, not too long."""
    plain = re.sub(r"[\0-\x1f/\\\x7f:]+", "-", text).strip("-. ")
    return plain.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore") or "unnamed"


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file, links followed.

    `Path.is_file` raises where it may not look.

    Raises:
        UserError: the file system does not tell.
    """
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_dir(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder, links followed; raises as `is_file` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is anything, links followed; raises as `is_file` does."""
    return _mode(path) is not None


def _mode(path: str | os.PathLike[str]) -> int | None:
    try:
        return os.stat(path).st_mode
    except ValueError:  # a NUL or a lone surrogate, which no name has
        return None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise UserError(
            f"can't look for {os.fspath(path)}: {error.strerror or error}; check its folder's permissions "
            "and the mount"
        ) from error
