"""The folder of a cache of blocks: its files, its lock, and the count of its bytes.

Below the folder that the user gives::

    pairstream-cache-1/usage         bytes taken by all files below; its flock guards every change
    pairstream-cache-1/writing/...   blocks being written, each flock'ed by its writer as long as that lives
    pairstream-cache-1/3f/KEY        whole blocks, spread over 256 folders by a hash of the key

Bytes are added to ``usage`` before a file is made and taken off after the file is gone. So a kill at any
moment can only leave the count too high. Opening counts again and removes what dead writers left.
"""

import errno
import fcntl
import os
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recon.base.paths import expanded

_FOLDER = "pairstream-cache-1"  # the number changes with the layout
_KEY = re.compile(r"[0-9a-f]{64}-\d+-\d+(-hints)?")
_PARTIAL = re.compile(r"[0-9a-f]{32}")
_SUBFOLDERS = [f"{number:02x}" for number in range(256)]
_DISK_BLOCK = 4096  # files are counted in whole blocks of the disk
_SPARE = 0.01  # share of the disk left free: checkpoints and logs may lie on it too
_WAIT_S = 2.0  # for the lock; a block is not worth more, and its holder may be a suspended job
_OPEN_WAIT_S = 120.0  # another process that opens counts a million files on a cold disk under the lock


def block_key(sha256: str, first: int, count: int) -> str:
    """The key of pairs first..first+count-1 of the shard whose tar has this SHA-256."""
    return f"{sha256}-{first}-{count}"


class BusyError(Exception):
    """The lock could not be had in time."""


class Usage:
    """The bytes taken, as ``usage`` holds them.

    They are 8 bytes, written by one call: no kill leaves half of a number.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        stored = os.pread(descriptor, 8, 0)
        self.bytes = int.from_bytes(stored, "little") if len(stored) == 8 else -1

    def set(self, count: int) -> None:
        """Stores a new count."""
        os.pwrite(self.descriptor, max(count, 0).to_bytes(8, "little"), 0)
        self.bytes = count


class CacheFolder:
    """The files of a cache, shared by all processes that use the folder.

    Args:
        folder: that the user gives.
    """

    def __init__(self, folder: str) -> None:
        self.root = expanded(folder) / _FOLDER
        self._usage = self.root / "usage"
        self._writing = self.root / "writing"

    def path(self, key: str) -> str:
        """Where the block of a key lies."""
        assert _KEY.fullmatch(key), key
        return f"{self.root}/{_SUBFOLDERS[zlib.crc32(key.encode()) & 0xFF]}/{key}"

    def open(self) -> int:
        """Makes the folders, removes what dead writers left, and counts the bytes of the rest.

        Returns:
            The time of opening in nanoseconds, on the clock of the file system: the files' times are
            compared with it, and the machine's own clock may differ.

        Raises:
            OSError: the folder can't be made or read.
            BusyError: another process held the lock for too long.
        """
        for folder in (self._writing, *(self.root / name for name in _SUBFOLDERS)):
            folder.mkdir(parents=True, exist_ok=True)
        with self._locked(_OPEN_WAIT_S, os.O_CREAT) as usage:
            with os.scandir(self._writing) as entries:
                taken = sum(_living(entry.path) for entry in entries if _PARTIAL.fullmatch(entry.name))
            usage.set(taken + sum(_charge(stat.st_size) for _, stat in self.blocks()))
            return os.fstat(usage.descriptor).st_mtime_ns

    def blocks(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """All whole blocks; one that vanishes meanwhile is left out."""
        for name in _SUBFOLDERS:
            with os.scandir(self.root / name) as entries:
                for entry in entries:
                    if _KEY.fullmatch(entry.name):
                        with suppress(FileNotFoundError):
                            yield entry, entry.stat(follow_symlinks=False)

    def add(self, path: str, data: bytes | memoryview, make_room: Callable[[int, Usage], bool]) -> None:
        """Writes a block, unless there is no room, or another process has written the same one.

        Args:
            path: of the block.
            data: of the block.
            make_room: gets the bytes that the block takes, and the count; False if they can't be had.
                Called under the lock.

        Raises:
            OSError: the disk is full or fails.
            BusyError: another process held the lock for too long.
        """
        partial = self._writing / uuid.uuid4().hex
        descriptor = self._reserve(partial, len(data), make_room)
        if descriptor is None:
            return
        try:
            _write(descriptor, data)  # without the lock of all changes: a slow disk keeps nobody waiting
            with self._locked(_WAIT_S) as usage:
                if os.path.exists(path):  # another process read the same block
                    remove(partial, usage)
                else:
                    os.rename(partial, path)
        except BaseException:
            self._give_back(partial)
            raise
        finally:
            os.close(descriptor)  # and with it the flock, which says that the writer lives

    def drop(self, path: str) -> None:
        """Removes a block, if it is there.

        Raises:
            OSError: the disk fails.
            BusyError: the lock could not be had; the block is gone, and the count is too high.
        """
        try:
            with self._locked(_WAIT_S) as usage:
                remove(path, usage)
        except BusyError:
            with suppress(OSError):
                os.unlink(path)
            raise

    def _reserve(self, partial: Path, size: int, make_room: Callable[[int, Usage], bool]) -> int | None:
        """Makes an empty file of `size` bytes and locks it; None where there is no room for it."""
        with self._locked(_WAIT_S) as usage:
            if not make_room(_charge(size), usage):
                return None
            _check_disk(self.root, size)
            usage.set(usage.bytes + _charge(size))
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.truncate(descriptor, size)  # a process that opens now counts it with its whole size
            except BaseException:
                os.close(descriptor)
                os.unlink(partial)
                usage.set(usage.bytes - _charge(size))
                raise
            return descriptor

    def _give_back(self, partial: Path) -> None:
        """Removes a block that could not be written."""
        with suppress(OSError, BusyError), self._locked(_WAIT_S) as usage:
            remove(partial, usage)
            return
        with suppress(OSError):
            os.unlink(partial)  # the count stays too high until some process opens the cache

    @contextmanager
    def _locked(self, wait_s: float, flags: int = 0) -> Iterator[Usage]:
        """Holds the lock of all changes.

        The file is opened each time: a flock belongs to an open file, so that threads which shared one
        would not exclude each other.
        """
        descriptor = os.open(self._usage, os.O_RDWR | flags, 0o666)
        try:
            _lock(descriptor, wait_s)
            usage = Usage(descriptor)
            if usage.bytes < 0 and not flags:
                raise BusyError("its count of bytes is lost until it is opened again")
            yield usage
        finally:
            os.close(descriptor)


def remove(path: str | Path, usage: Usage) -> None:
    """Unlinks a file, if it is there, and takes it off the count; called under the lock."""
    with suppress(FileNotFoundError):
        size = os.stat(path).st_size
        os.unlink(path)
        usage.set(usage.bytes - _charge(size))


def _lock(descriptor: int, wait_s: float) -> None:
    # By trying again, as flock itself has no time limit.
    deadline, pause = time.monotonic() + wait_s, 0.0002
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise BusyError(f"another process has held its lock for {wait_s:.0f} s") from None
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


def _living(partial: str) -> int:
    """The bytes of a block that is being written; 0 if its writer is dead, and then the file is removed."""
    try:
        descriptor = os.open(partial, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(partial)
        return 0
    except BlockingIOError:
        return _charge(os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _charge(size: int) -> int:
    """What a file of a size takes of the disk."""
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


def _check_disk(root: Path, size: int) -> None:
    disk = os.statvfs(root)
    if disk.f_bavail * disk.f_frsize - size < _SPARE * disk.f_blocks * disk.f_frsize:
        raise OSError(errno.ENOSPC, f"the disk is full but for {_SPARE:.0%}")


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:  # one call may write a part only
        rest = rest[os.write(descriptor, rest) :]
