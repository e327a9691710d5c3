"""Blocks of pairs kept on local disk, shared by all processes of a node: ranks and other jobs.

Below the folder that the user gives::

    pairstream-cache-1/usage         bytes taken by all files below; its flock guards every change
    pairstream-cache-1/writing/...   blocks being written, each flock'ed by its writer as long as that lives
    pairstream-cache-1/3f/KEY        whole blocks, spread over 256 folders by a hash of the key

Bytes are added to ``usage`` before a file is made and taken off after it is gone, so that a kill at
any moment can only leave the count too high. Opening counts again and removes what the dead left.

A block is visited once an epoch in a fresh random order. Throwing out what was used longest ago would
then throw out what is needed soonest, so a full cache keeps what it has: room is made only by blocks
that nobody used since this cache was opened.
"""

import errno
import fcntl
import heapq
import logging
import os
import re
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recon.base.errors import UserError

_LOG = logging.getLogger(__name__)

_FOLDER = "pairstream-cache-1"  # the number changes with the layout
_KEY = re.compile(r"[0-9a-f]{64}-\d+-\d+")
_PARTIAL = re.compile(r"[0-9a-f]{32}")
_SUBFOLDERS = [f"{number:02x}" for number in range(256)]
_DISK_BLOCK = 4096  # files are counted in whole blocks of the disk
_SPARE = 0.01  # share of the disk left free: checkpoints and logs may lie on it too
_WAIT_S = 2.0  # for the lock; a block is not worth more, and its holder may be a suspended job
_REST_S = 60.0  # without a put after waiting in vain, lest every block wait so long
_OPEN_WAIT_S = 120.0  # an opener that counts a million files on a cold disk holds the lock for long
_MOST_EVICTED = 64  # by one put, so that a lowered limit is reached in short steps
_VICTIMS = 4096  # found by one scan of all files
_OWN_TURN = 8  # see BlockCache
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # not the fault of the folder that was named


def block_key(sha256: str, first: int, count: int) -> str:
    """The key of pairs first..first+count-1 of the shard whose tar has this SHA-256."""
    return f"{sha256}-{first}-{count}"


class BlockCache:
    """Blocks on local disk by key, bounded in bytes over all processes that use the folder.

    Any number of threads and processes may use one folder, each with a limit of its own: it adds
    nothing beyond its own limit. After construction nothing is raised: on a full or failing disk it goes on
    with what can be read and says so once. What `get` returns is what was `put` unless the disk or a
    power cut harmed it: check it, and `drop` it if it is wrong.

    Args:
        folder: made if missing; files of others in it are never touched.
        limit_bytes: most bytes that all blocks may take, those being written included.
        shards: SHA-256 of the shards that this run reads. A full cache replaces unused blocks of other
            shards at once, but of these only at every 8th new block: a run that is killed and restarted
            with a dataset larger than the cache keeps most of its blocks (a hit rate of .43 in the next
            epoch where the cache holds half; .15 if all were fair game), yet blocks of another
            size, which no run asks for any more, go in time.

    Raises:
        UserError: the folder can't be made, read or locked.
    """

    def __init__(self, folder: str, limit_bytes: int, shards: Collection[str] = ()) -> None:
        if "://" in folder:
            raise UserError(f"cache_dir={folder}, expected a local folder")
        self.root = Path(folder).expanduser() / _FOLDER
        self.limit_bytes = limit_bytes
        self._shards = frozenset(shards)
        self._usage = self.root / "usage"
        self._writing = self.root / "writing"
        self._victims: deque[tuple[bool, int, str]] = deque()
        self._all_in_use = False
        self._full_puts = 0
        self._rest_until = 0.0
        self._opened_ns = 0  # on the clock of the file system
        self._stopped = False
        self._stop_lock = threading.Lock()
        try:
            self._open()
        except _BusyError as error:
            self._stop(error)
        except OSError as error:
            if error.errno not in _PASSING:
                raise UserError(
                    f"can't use {folder} as cache_dir: {error.strerror or error}; name a local folder "
                    "that can be written"
                ) from error
            self._stop(error)

    def get(self, key: str) -> bytes | None:
        """The block of this key; None if it isn't here."""
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_mtime_ns < self._opened_ns:
                    with suppress(OSError):
                        os.utime(file.fileno())  # used: this cache makes no room by it, nor do older ones
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._stop(error)
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Keeps a block, if there is room and disk for it; a block that is there stays."""
        path = self._path(key)
        if self._stopped or time.monotonic() < self._rest_until or os.path.exists(path):
            return
        try:
            self._put(path, data)
        except _BusyError:
            self._rest_until = time.monotonic() + _REST_S
        except OSError as error:
            self._stop(error)

    def drop(self, key: str) -> None:
        """Removes a block whose contents proved wrong."""
        path = self._path(key)
        try:
            with self._locked(_WAIT_S) as usage:
                _remove(path, usage)
        except _BusyError:
            self._rest_until = time.monotonic() + _REST_S
            with suppress(OSError):
                os.unlink(path)  # the count stays too high until somebody opens the cache
        except OSError as error:
            self._stop(error)

    def _path(self, key: str) -> str:
        assert _KEY.fullmatch(key), key
        return f"{self.root}/{_SUBFOLDERS[zlib.crc32(key.encode()) & 0xFF]}/{key}"

    def _open(self) -> None:
        """Makes the folders, removes what dead writers left, counts the bytes of the rest."""
        for folder in (self._writing, *(self.root / name for name in _SUBFOLDERS)):
            folder.mkdir(parents=True, exist_ok=True)
        with self._locked(_OPEN_WAIT_S, os.O_CREAT) as usage:
            with os.scandir(self._writing) as entries:
                taken = sum(_living(entry.path) for entry in entries if _PARTIAL.fullmatch(entry.name))
            usage.set(taken + sum(_charge(stat.st_size) for _, stat in self._blocks()))
            self._opened_ns = os.fstat(usage.descriptor).st_mtime_ns

    def _blocks(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """All whole blocks; one that vanishes meanwhile is left out."""
        for name in _SUBFOLDERS:
            with os.scandir(self.root / name) as entries:
                for entry in entries:
                    if _KEY.fullmatch(entry.name):
                        with suppress(FileNotFoundError):
                            yield entry, entry.stat(follow_symlinks=False)

    def _put(self, path: str, data: bytes | memoryview) -> None:
        partial = self._writing / uuid.uuid4().hex
        descriptor = self._reserve(partial, len(data))
        if descriptor is None:
            return
        try:
            _write(descriptor, data)
            with self._locked(_WAIT_S) as usage:
                if os.path.exists(path):  # another process read the same block
                    _remove(partial, usage)
                else:
                    os.rename(partial, path)
        except BaseException:
            self._give_back(partial)
            raise
        finally:
            os.close(descriptor)

    def _reserve(self, partial: Path, size: int) -> int | None:
        """Makes an empty file of `size` bytes and locks it; None where there is no room for it."""
        with self._locked(_WAIT_S) as usage:
            if not self._make_room(_charge(size), usage):
                return None
            _check_disk(self.root, size)
            usage.set(usage.bytes + _charge(size))
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.truncate(descriptor, size)  # who counts the files now counts it whole
            except BaseException:
                os.close(descriptor)
                os.unlink(partial)
                usage.set(usage.bytes - _charge(size))
                raise
            return descriptor

    def _give_back(self, partial: Path) -> None:
        """Removes a block that could not be written."""
        with suppress(OSError, _BusyError), self._locked(_WAIT_S) as usage:
            _remove(partial, usage)
            return
        with suppress(OSError):
            os.unlink(partial)  # the count stays too high until somebody opens the cache

    def _make_room(self, size: int, usage: "_Usage") -> bool:
        """Evicts until `size` bytes fit; False if they can't be made to. Called under the lock."""
        if size > self.limit_bytes:
            return False
        if usage.bytes + size > self.limit_bytes:
            self._full_puts += 1
        for _ in range(_MOST_EVICTED):
            if usage.bytes + size <= self.limit_bytes or not self._evict(usage):
                break
        return usage.bytes + size <= self.limit_bytes

    def _evict(self, usage: "_Usage") -> bool:
        """Removes the block that comes first in line; False if none may go."""
        if not self._victims and not self._all_in_use:
            old = (
                (entry.name[:64] in self._shards, stat.st_mtime_ns, entry.path)
                for entry, stat in self._blocks()
                if stat.st_mtime_ns < self._opened_ns
            )
            self._victims.extend(heapq.nsmallest(_VICTIMS, old))
            self._all_in_use = not self._victims  # no block grows older, so there is no use to look again
        if not self._victims or (self._victims[0][0] and self._full_puts % _OWN_TURN):
            return False
        _, used_ns, path = self._victims.popleft()
        with suppress(FileNotFoundError):
            if os.stat(path).st_mtime_ns == used_ns:
                _remove(path, usage)
        return True

    def _stop(self, error: Exception) -> None:
        """Puts no more blocks, and says so the first time."""
        with self._stop_lock:
            if self._stopped:
                return
            self._stopped = True
        _LOG.warning(
            "no more blocks are cached in %s (%s); going on without; mend the disk or lower cache_gb",
            self.root,
            getattr(error, "strerror", None) or error,
        )

    @contextmanager
    def _locked(self, wait_s: float, flags: int = 0) -> Iterator["_Usage"]:
        """Holds the lock of all changes. It is opened anew each time, so that threads exclude each other."""
        descriptor = os.open(self._usage, os.O_RDWR | flags, 0o666)
        try:
            _lock(descriptor, wait_s)
            usage = _Usage(descriptor)
            if usage.bytes < 0 and not flags:
                raise _BusyError("its count of bytes is lost until it is opened again")
            yield usage
        finally:
            os.close(descriptor)


class _BusyError(Exception):
    """The lock could not be had in time."""


class _Usage:
    """The bytes taken, as ``usage`` holds them: 8 bytes, so that no kill leaves half of a number."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        stored = os.pread(descriptor, 8, 0)
        self.bytes = int.from_bytes(stored, "little") if len(stored) == 8 else -1

    def set(self, count: int) -> None:
        os.pwrite(self.descriptor, max(count, 0).to_bytes(8, "little"), 0)
        self.bytes = count


def _lock(descriptor: int, wait_s: float) -> None:
    deadline, pause = time.monotonic() + wait_s, 0.0002
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _BusyError(f"another process has held its lock for {wait_s:.0f} s") from None
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


def _living(partial: str) -> int:
    """The bytes of a block that is being written; 0 if its writer is dead, and then it is removed."""
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
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


def _remove(path: str | Path, usage: _Usage) -> None:
    """Unlinks a file, if it is there, and takes it off the count."""
    with suppress(FileNotFoundError):
        size = os.stat(path).st_size
        os.unlink(path)
        usage.set(usage.bytes - _charge(size))


def _check_disk(root: Path, size: int) -> None:
    disk = os.statvfs(root)
    if disk.f_bavail * disk.f_frsize - size < _SPARE * disk.f_blocks * disk.f_frsize:
        raise OSError(errno.ENOSPC, f"the disk is full but for {_SPARE:.0%}")


def _write(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
