"""Paths and URLs: their folder and name, whether a file exists, and checks of names that come from data."""

import codecs
import errno
import hashlib
import io
import os
import re
import stat
import sys
from pathlib import Path

from recon.base.errors import UserError

# Errors of `stat` that mean "no such file"; pathlib lists EBADF too, which macOS is known to give.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.ENAMETOOLONG)
_LONGEST = 255  # bytes of a name that file systems take
_LONGEST_NAME = 200  # bytes of a name that we make; a suffix may follow


def split_path(path: str) -> tuple[str, str]:
    """Splits a file's path or URL into its folder and its name.

    Args:
        path: such as ``a.png``, ``/a.png``, ``runs/a.png``, ``s3://bucket/a.png``.

    Returns:
        The folder (``.`` or ``/`` if the path names no other) and the name.

    Raises:
        UserError: the path has no name, or the URL names only a bucket or host.
    """
    # "s3://bucket" gives the folder "s3:/", which the check below refuses.
    folder, slash, name = path.removeprefix("file://").rpartition("/")
    if name in ("", ".", "..") or folder.endswith(":/"):
        raise UserError(f"{path!r} names no file, expected FOLDER/FILE or URL/FILE")
    return folder or slash or ".", name


def expanded(path: str) -> Path:
    """Replaces ``~`` by the home folder that it names, or keeps it if no user has that name."""
    # `Path.expanduser` would raise RuntimeError for a user that doesn't exist.
    return Path(os.path.expanduser(path))


def folder_name(place: str) -> str:
    """The last part of a folder's URL or absolute path, so that "." has a name too."""
    return one_name(place).rsplit("/", 1)[-1]


def printable(path: str) -> str:
    r"""The path, or a text with a path in it, as valid Unicode: bytes that are not UTF-8 become ``\xNN``."""
    # Not os.fsencode, which in other locales than UTF-8 refuses the rest of the text.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def forget_output() -> None:
    """Python flushes standard output at exit, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Gives a process that was started without standard output or error one that forgets: Python has None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def print_any_text(*streams: object) -> None:
    r"""Lets streams print what they can't encode: stray bytes as `printable` does, the rest as ``\uNNNN``.

    Else a file's name that is no Unicode, or a dash where the locale is not UTF-8, would end a command whose
    work is done.
    """
    codecs.register_error("printable", _shown)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):  # others, such as a notebook's, have no encoding
            stream.reconfigure(errors="printable")


def _shown(error: UnicodeError) -> tuple[str, int]:
    """The handler of what can't be encoded, as `codecs.register_error` wants it."""
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    found = re.sub("[\udc80-\udcff]", lambda stray: f"\\x{ord(stray[0]) - 0xDC00:02x}", found)
    return found.encode("ascii", "backslashreplace").decode(), error.end


def partial_name(name: str) -> str:
    """The name beside a file under which it is written before it is renamed; always the same one."""
    found = f".{name}.partial"
    if len(os.fsencode(found)) <= _LONGEST:
        return found
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.partial"


def is_plain_name(name: object) -> bool:
    """Whether a name from a manifest is a name without a folder: a path could lead to any other file."""
    return isinstance(name, str) and not {"/", "\0"} & set(name) and name not in ("", ".", "..")


def safe_name(text: str) -> str:
    """Makes a file's or folder's name of any text: no separators, no dots at its start, not too long."""
    # Cutting bytes may split the last character, hence "ignore" at the end.
    plain = re.sub(r"[\0-\x1f/\\\x7f:]+", "-", text).strip("-. ")
    return plain.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore") or "unnamed"


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a file or a link to one.

    Raises:
        UserError: the file system doesn't answer, e.g. because a folder may not be searched.
    """
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_dir(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder or a link to one; raises as `is_file` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether `path` names anything that exists, with links followed; raises as `is_file` does."""
    return _mode(path) is not None


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a pipe, a socket or a device, or a link to one; raises as `is_file` does.

    A pipe must not be opened: who reads from it waits until another process writes into it.
    """
    mode = _mode(path)
    return mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, if they are missing.

    Raises:
        UserError: something else has its name.
        OSError: the file system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        where = Path(error.filename or path)  # may be one of those above
        what = "a file" if exists(where) else "a link that leads nowhere"
        raise UserError(f"can't write into {path}: {where} is {what}, expected a folder") from error


def names_in(folder: Path) -> list[str]:
    """Sorted names of what a folder holds; raises as `is_file` does."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(
            f"can't look into {folder}: {error.strerror or error}; check its permissions"
        ) from error


def _mode(path: str | os.PathLike[str]) -> int | None:
    try:
        return os.stat(path).st_mode
    except ValueError:  # a NUL or a lone surrogate in the path: no file has such a name
        return None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise UserError(
            f"can't look for {os.fspath(path)}: {error.strerror or error}; check its folder's permissions "
            "and the mount"
        ) from error


def one_name(path: str) -> str:
    """One name for all paths of a file or folder, links resolved; a URL stays as it is."""
    return path.rstrip("/") if "://" in path else os.path.realpath(expanded(path))


def named_yaml(folder: Path, name: str, option: str) -> Path:
    """The YAML file of this name in a folder, without its suffix; or the one at this path.

    Raises:
        UserError: there is neither; the message names the option and the files in the folder.
    """
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    path = folder / f"{name}.yaml" if name in names else Path(name)
    if not is_file(path):
        raise UserError(f"{option}={name}: expected {', '.join(names)}, or a YAML file")
    return path
