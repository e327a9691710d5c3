"""A store in a directory of the local file system."""

import errno
import fcntl
import filecmp
import os
import stat
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pack.storage.pins import Pins
from pack.storage.retry import Retry
from pack.storage.trouble import BusyError, reading, taken, warn_once, whole, writing
from recon.base.errors import UserError
from recon.base.paths import exists, expanded, is_dir, is_file, is_special, make_folder, partial_name
from recon.base.walk import Files, Leave, listing, tell_nobody, walk

# What os.link raises if the file system has no hard links, or no more of them.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # Lustre without -o flock, some NFS
# Of a directory: some FUSE and network ones; EACCES: one that may be written and not read.
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES)

Version = tuple[int, int, int]
"""Inode, size in bytes, modification time in nanoseconds."""


class LocalStore:
    """A directory of the local file system."""

    def __init__(self, url: str, retry: Retry = Retry()) -> None:  # noqa: B008  # frozen
        self.url, self.retry = url, retry
        self.root = expanded(url)
        self._pins: Pins[Version] = Pins()

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        return is_file(self.root / name)

    def size(self, name: str) -> int:
        """See `Store.size`."""
        with reading(self.root / name):
            return _regular(self.root / name).st_size

    def names(self) -> list[str]:
        """See `Store.names`."""
        if not is_dir(self.root):
            return []
        with listing(self.root), os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())

    def times(self) -> dict[str, float | None]:
        """See `Store.times`."""
        if not is_dir(self.root):
            return {}
        found: dict[str, float | None] = {}
        with listing(self.root), os.scandir(self.root) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it was renamed or removed meanwhile
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_mtime
        return found

    def walk(self, links: Container[str] = (), leave: Leave = tell_nobody) -> Files:
        """See `Store.walk`."""
        return walk(self.root, links, leave)

    def read(self, name: str, start: int = 0, *, until: float | None = None) -> bytes:  # noqa: ARG002
        """See `Store.read`; `until` is ignored, because only the kernel can end a read from disk."""
        path = self.root / name
        with _opened(path) as descriptor:
            length = max(0, os.fstat(descriptor).st_size - start)
            return whole(_pread(descriptor, start, length), str(path), start, length)

    def head(self, name: str, length: int) -> bytes:
        """See `Store.head`."""
        with _opened(self.root / name) as descriptor:
            return _pread(descriptor, 0, length)

    def read_range(
        self,
        name: str,
        start: int,
        length: int,
        *,
        until: float | None = None,  # noqa: ARG002
    ) -> memoryview:
        """See `Store.read_range`; `until` is ignored, because only the kernel can end a read from disk."""
        path = os.path.join(self.root, name)  # a Path takes a fifth of a read's time
        with _opened(path) as descriptor:
            data = _pread(descriptor, start, length)
            found = os.fstat(descriptor)  # after reading, to see a change during the read too
        self._pins.check(name, (found.st_ino, found.st_size, found.st_mtime_ns), path)
        return memoryview(whole(data, path, start, length))

    @contextmanager
    def publish(self, name: str, *, create: bool = False) -> Iterator[BinaryIO]:
        """See `Store.publish`: the file is written next to its target, flushed to disk, then renamed."""
        partial = self.root / partial_name(name)
        with writing(self.root / name):
            make_folder(self.root)
            refuse_special(self.root / name)
            with _locked(partial, self.root / name) as file:
                file.truncate(0)  # a killed process may have left bytes
                try:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())  # before the rename: a power cut must not leave an empty object
                    (_create if create else Path.replace)(partial, self.root / name)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
            self._pins.forget(name)
            _sync_directory(self.root)  # the rename itself must survive a power cut

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        with writing(self.root / name):
            (self.root / name).unlink(missing_ok=True)
        self._pins.forget(name)


def refuse_special(path: Path) -> None:
    """UserError if `path` is a pipe, a socket or a device, which a file would replace by its name."""
    if is_special(path):
        raise UserError(f"can't write {path}: it is a pipe, a socket or a device; name a file")


def _regular(path: str | Path) -> os.stat_result:
    """What the file system tells of a file; a UserError or OSError if it can't be read as one."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is a pipe, a socket or a device, expected a file")
    return found


@contextmanager
def _opened(path: str | Path) -> Iterator[int]:
    """Gives the descriptor of a file; looks at it before it is opened, which waits for ever with a pipe."""
    with reading(path):
        _regular(path)
        descriptor = os.open(path, os.O_RDONLY)  # a third of the time that a file object takes
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextmanager
def temporary_file() -> Iterator[BinaryIO]:
    """Gives a local file for data that will be uploaded; its `name` is its path."""
    folder = Path(tempfile.gettempdir())
    with writing(folder / "a file to upload (TMPDIR chooses the folder)"):
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            yield file  # type: ignore[misc]


def _create(partial: Path, target: Path) -> None:
    """Moves `partial` to `target`; a UserError if `target` exists with other content."""
    try:
        # A hard link fails if `target` exists; a rename would replace it.
        os.link(partial, target)
    except FileExistsError:
        if not filecmp.cmp(partial, target, shallow=False):
            raise taken(str(target)) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if exists(target) and not filecmp.cmp(partial, target, shallow=False):
            raise taken(str(target)) from None
        partial.replace(target)  # no other process of ours writes now: we hold the lock on `partial`
        return
    partial.unlink()


def _pread(descriptor: int, start: int, length: int) -> bytes:
    parts: list[bytes] = []
    # One call returns 2 GiB at most (Linux).
    while length > 0 and (part := os.pread(descriptor, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def _locked(partial: Path, target: Path) -> Iterator[BinaryIO]:
    """Opens `partial` and locks it for this process alone."""
    # Mode "a", because "w" would empty a file that another process has locked.
    with partial.open("ab") as file:
        _lock(file, partial, target)
        if os.fstat(file.fileno()).st_nlink == 1:
            yield file
            return
        # Two names: a process was killed within `_create`, and this file is the published one. Start anew.
        partial.unlink()
    with partial.open("ab") as file:
        _lock(file, partial, target)
        yield file


def _lock(file: BinaryIO, partial: Path, target: Path) -> None:
    """Locks `partial`; BusyError if another process writes `target` or has just published it."""
    try:
        lock(file.fileno(), partial.parent)
        # Another process may have renamed the file after we opened it and before we locked it.
        ours = os.path.samestat(os.fstat(file.fileno()), partial.stat())
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        raise BusyError(f"another process is writing {target}; wait for it or choose another --out")


def lock(descriptor: int, folder: Path) -> None:
    """Locks an open file of `folder` for this process; goes on with a warning where locks don't exist.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the disk fails.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warn_once(
            f"the file system of {folder} has no locks ({error.strerror}): a second process that writes "
            "there at the same time is not refused; start one run at a time, or mount it with flock"
        )


def _sync_directory(path: Path) -> None:
    """Writes the names of a directory to disk; goes on with a warning where that can't be done."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        warn_once(
            f"the file system of {path} can't write a directory to disk ({error.strerror}): a power cut may "
            "lose the names of the files written last; run python -m pack.verify after one"
        )
