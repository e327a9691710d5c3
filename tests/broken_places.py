"""Places that a command may be given and can't use: real ones, and valid copies for which calls fail.

The second kind stands for what needs root or a mount. While `failing` holds, every call that Python makes
for a path with `MARK` in it raises an error of the system, as on a disk that is gone or may not be read.
"""

import builtins
import errno
import io
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest

MARK = "broken"
"""In the path of every place that fails."""

Calls = Literal["all", "inside", "writing"]
Broken = tuple[Path, AbstractContextManager[None]]
"""A place, and what has to hold while it is used."""
Make = Callable[[Path, Path | None, str], Broken]
"""Makes a place in a new folder.

Its arguments: the folder; what is whole, and copied if the place fails by its calls (None for an output); the
suffix of the place's name.
"""

_LOOKING = ("stat", "lstat", "access", "readlink", "statvfs")
_LISTING = ("scandir", "listdir")
_CHANGING = ("mkdir", "rename", "replace", "link", "symlink", "unlink", "remove", "rmdir", "truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class WouldHangError(BaseException):
    """A pipe was opened that nobody writes into. No command catches it."""


@contextmanager
def failing(code: int, calls: Calls) -> Iterator[None]:
    """While it holds, calls for the broken places raise an error.

    Args:
        code: of the error.
        calls: which ones. ``inside``: the place can be seen, and neither listed nor opened.
    """

    def hits(path: object, *, below: bool = False) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return MARK in (os.path.dirname(text) if below else text)

    def raising(original: Any, *, below: bool = False, only_writing: bool = False) -> Any:
        def call(*given: Any, **options: Any) -> Any:
            if any(hits(path, below=below) for path in given[:2]):
                mode = given[1] if len(given) > 1 else options.get("mode", options.get("flags", "r"))
                if not only_writing or _is_writing(mode):
                    raise OSError(code, os.strerror(code), os.fspath(given[0]))
            return original(*given, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        names = () if calls == "writing" else (*_LOOKING, *_LISTING)
        for name in (*names, *_CHANGING):
            below = calls == "inside" and name in _LOOKING
            patch.setattr(os, name, raising(getattr(os, name), below=below))
        patch.setattr(os, "open", raising(os.open, only_writing=calls == "writing"))
        opened = raising(io.open, only_writing=calls == "writing")
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        yield


def _is_writing(mode: int | str) -> bool:
    return bool(mode & _WRITES) if isinstance(mode, int) else bool(set(mode) & set("wxa+"))


@contextmanager
def no_pipe_opened() -> Iterator[None]:
    """While it holds, opening a pipe fails the test at once, in place of waiting for ever."""
    original = io.open

    def opened(path: Any, *rest: Any, **options: Any) -> Any:
        if not isinstance(path, int) and os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
            raise WouldHangError(path)
        return original(path, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        yield


def named(name: str) -> Make:
    """A place that is not there, and may not be possible."""
    return lambda folder, _, suffix: (folder / f"{name}{suffix}", nullcontext())


def link_to(target: str) -> Make:
    """A link that leads nowhere; or round, to itself."""

    def make(folder: Path, _: Path | None, suffix: str) -> Broken:
        place = folder / f"link{suffix}"
        place.symlink_to(f"{target}{suffix}")
        return place, nullcontext()

    return make


def pipe(folder: Path, _: Path | None, suffix: str) -> Broken:
    """Nobody writes into it."""
    place = folder / f"pipe{suffix}"
    os.mkfifo(place)
    return place, nullcontext()


def unix_socket(folder: Path, _: Path | None, suffix: str) -> Broken:
    """Nobody listens at it."""
    place, here = folder / f"socket{suffix}", Path.cwd()
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(folder)  # the name of a socket has at most 107 bytes
        one.bind(place.name)
        os.chdir(here)
    return place, nullcontext()


def refusing(code: int, calls: Calls = "all") -> Make:
    """A whole place, with errors of the system."""

    def make(folder: Path, whole: Path | None, suffix: str) -> Broken:
        place = folder / MARK / f"place{suffix}"
        place.parent.mkdir()
        if whole is not None:
            copy = shutil.copytree if whole.is_dir() else shutil.copy
            copy(whole, place)
        return place, failing(code, calls)

    return make


INPUTS: dict[str, Make] = {
    "no permission": refusing(errno.EACCES),
    "no permission inside": refusing(errno.EACCES, "inside"),
    "stale handle": refusing(errno.ESTALE),
    "name too long": named("x" * 300),
    "not UTF-8": named("caf\udce9"),
    "dangling link": link_to("nowhere"),
    "circular link": link_to("link"),
    "pipe": pipe,
    "socket": unix_socket,
}
"""By what is broken; all for places that are read."""


def in_proc(folder: Path, _: Path | None, suffix: str) -> Broken:
    """Not even root makes a file there."""
    return Path("/proc") / f"{folder.name}{suffix}", nullcontext()


FOLDERS: dict[str, Make] = {
    "in /proc": in_proc,
    "no permission": refusing(errno.EACCES),
    "stale handle": refusing(errno.ESTALE),
    "read-only": refusing(errno.EROFS, "writing"),
    "name too long": named("x" * 300),
    "dangling link": link_to("nowhere"),
    "circular link": link_to("link"),
    "pipe": pipe,
    "socket": unix_socket,
}
"""The same for folders of results."""

FILES = {name: make for name, make in FOLDERS.items() if "link" not in name}
"""The same for single files of results, which take the place of a link."""
