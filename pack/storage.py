"""Directories and URL prefixes: exact ranged reads and atomic publishing.

The only module that knows fsspec. A local path is read by `pread`; any other scheme goes
through its fsspec filesystem. A name appears whole or not at all.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from recon.errors import UserError


class Store(Protocol):
    """The objects below one directory or URL prefix, by name."""

    url: str

    def exists(self, name: str) -> bool:
        """Whether an object of that name has been published."""

    def size(self, name: str) -> int:
        """Bytes of an object; UserError if there is none."""

    def names(self) -> list[str]:
        """The sorted names of all objects directly below the prefix."""

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads exactly `length` bytes from `start` (None: to the end).

        Raises:
            UserError: there is no such object, or it ends before `start + length`.
        """

    def publish(self, name: str) -> Any:
        """Context manager of a binary file that becomes object `name` when the block ends well."""

    def remove(self, name: str) -> None:
        """Deletes an object."""


def open_store(url: str) -> Store:
    """The store of a local directory (created on first publishing) or fsspec URL."""
    if "://" not in url or url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"))
    return FsspecStore(url)


class LocalStore:
    """A directory of the local file system."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.root = Path(url).expanduser()

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        return (self.root / name).is_file()

    def size(self, name: str) -> int:
        """See `Store.size`."""
        with _reading(self.root / name):
            return (self.root / name).stat().st_size

    def names(self) -> list[str]:
        """See `Store.names`."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_file())

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        path = self.root / name
        with _reading(path), path.open("rb", buffering=0) as file:
            if length is None:
                length = os.fstat(file.fileno()).st_size - start
            data = _pread(file.fileno(), start, length)
        return _whole(data, str(path), start, length)

    @contextmanager
    def publish(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.publish`: written beside the target, flushed to disk, then renamed."""
        partial = self.root / f".{name}.partial"
        with _writing(self.root / name):
            self.root.mkdir(parents=True, exist_ok=True)
            with partial.open("ab") as file:
                _lock(file, partial, self.root / name)
                file.truncate(0)
                try:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                    partial.replace(self.root / name)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
            _sync_directory(self.root)

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        (self.root / name).unlink()


class FsspecStore:
    """A URL prefix of any scheme that fsspec knows."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise UserError(f"can't open {url}: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        return bool(self.fs.isfile(self._path(name)))

    def size(self, name: str) -> int:
        """See `Store.size`."""
        with _reading(f"{self.url}/{name}"):
            return int(self.fs.size(self._path(name)))

    def names(self) -> list[str]:
        """See `Store.names`."""
        if not self.fs.isdir(self.root):
            return []
        self.fs.invalidate_cache(self.root)
        entries = self.fs.ls(self.root, detail=True)
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file")

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        end = None if length is None else start + length
        with _reading(f"{self.url}/{name}"):
            data: bytes = self.fs.cat_file(self._path(name), start=start, end=end)
        return _whole(data, f"{self.url}/{name}", start, len(data) if length is None else length)

    @contextmanager
    def publish(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.publish`: written to a local temporary file, then uploaded in one go."""
        with _writing(f"{self.url}/{name}"), tempfile.NamedTemporaryFile() as file:
            yield file  # type: ignore[misc]
            file.flush()
            self.fs.makedirs(self.root, exist_ok=True)
            self.fs.put_file(file.name, self._path(name))

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        self.fs.rm_file(self._path(name))


def _pread(descriptor: int, start: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _whole(data: bytes, where: str, start: int, length: int) -> bytes:
    if len(data) != length:
        raise UserError(
            f"{where} ends early: expected {length} bytes at {start}, found {len(data)}; "
            "run python -m pack.verify on the dataset"
        )
    return data


@contextmanager
def _reading(where: object) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{where} not found; check the path or URL") from error
    except PermissionError as error:
        raise UserError(f"no permission to read {where}") from error
    except IsADirectoryError as error:
        raise UserError(f"{where} is a directory, expected a file") from error


@contextmanager
def _writing(where: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"disk full while writing {where}{_free(where)}; free some and run again"
            ) from error
        raise UserError(f"can't write {where}: {error.strerror or error}") from error


def _free(where: Path | str) -> str:
    if not isinstance(where, Path) or not where.parent.is_dir():
        return ""
    return f" ({shutil.disk_usage(where.parent).free >> 20} MiB free)"


def _lock(file: BinaryIO, partial: Path, target: Path) -> None:
    """Keeps other writers of `target` away; refuses where there is one, or was one a moment ago."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(file.fileno()), partial.stat())  # else renamed since we opened it
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        raise UserError(f"another process is writing {target}; wait for it or choose another --out")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
