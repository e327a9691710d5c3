"""Blocks of pairs kept on local disk, shared by all processes of a node: ranks and other jobs.

A block is visited once an epoch in a fresh random order. Removing what was used longest ago would
then remove what is needed soonest, so a full cache keeps what it has: room is made only by blocks
that nobody used since this cache was opened. `pack.dataset.cache_folder` has the files and their lock.
"""

import errno
import heapq
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Container
from contextlib import suppress

from pack.dataset.cache_folder import BusyError, CacheFolder, Usage, block_key, remove
from recon.base.errors import UserError

__all__ = ["BlockCache", "block_key"]

_LOG = logging.getLogger(__name__)

_REST_S = 60.0  # without a put after waiting in vain for the lock, or else every block would wait as long
_MOST_EVICTED = 64  # by one put, so that a lowered limit is reached in short steps
_VICTIMS = 4096  # found by one scan of all files
_OWN_TURN = 8  # see BlockCache
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # not the fault of the folder that was named


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
            shards at once, but blocks of these shards only at every 8th new block. So a run that is killed
            and restarted with a dataset larger than the cache keeps most of its blocks (where the cache
            holds half: a hit rate of .43 in the next epoch, and .15 if all blocks were replaced alike).
            Yet blocks of another size, which no run asks for any more, are removed in time.

    Raises:
        UserError: the folder can't be made, read or locked.
    """

    def __init__(self, folder: str, limit_bytes: int, shards: Container[str] = ()) -> None:
        if "://" in folder:
            raise UserError(f"cache_dir={folder}, expected a local folder")
        self._folder = CacheFolder(folder)
        self.root = self._folder.root
        self.limit_bytes = limit_bytes
        self._shards = shards
        self._victims: deque[tuple[bool, int, str]] = deque()
        """(of this run's shards, time of last use, path), in the order in which they are to go."""
        self._all_in_use = False
        self._full_puts = 0
        self._rest_until = 0.0
        self._opened_ns = 0
        self._stopped = False
        self._stop_lock = threading.Lock()
        try:
            self._opened_ns = self._folder.open()
        except BusyError as error:
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
        # Without the lock: a file has its name only when it is whole, and one that is open stays readable.
        try:
            with open(self._folder.path(key), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_mtime_ns < self._opened_ns:
                    # Marked as used, for this cache and for those opened before. Once is enough: to mark
                    # it at each visit would only cost writes.
                    with suppress(OSError):
                        os.utime(file.fileno())
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._stop(error)
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Keeps a block, if there is room and disk for it; a block that is there stays."""
        path = self._folder.path(key)
        if self._stopped or time.monotonic() < self._rest_until or os.path.exists(path):
            return
        try:
            self._folder.add(path, data, self._make_room)
        except BusyError:
            self._rest()
        except OSError as error:
            self._stop(error)

    def drop(self, key: str) -> None:
        """Removes a block whose contents proved wrong."""
        try:
            self._folder.drop(self._folder.path(key))
        except BusyError:
            self._rest()
        except OSError as error:
            self._stop(error)

    def _make_room(self, size: int, usage: Usage) -> bool:
        """Removes blocks until `size` bytes fit; False if they can't be made to. Called under the lock."""
        if size > self.limit_bytes:
            return False
        if usage.bytes + size > self.limit_bytes:
            self._full_puts += 1
        for _ in range(_MOST_EVICTED):
            if usage.bytes + size <= self.limit_bytes or not self._evict(usage):
                break
        return usage.bytes + size <= self.limit_bytes

    def _evict(self, usage: Usage) -> bool:
        """Removes the block that comes first in line; False if none may go."""
        if not self._victims and not self._all_in_use:
            self._find_victims()
        if not self._victims or (self._victims[0][0] and self._full_puts % _OWN_TURN):
            return False
        _, used_ns, path = self._victims.popleft()
        with suppress(FileNotFoundError):
            if os.stat(path).st_mtime_ns == used_ns:  # else it was used since the scan
                remove(path, usage)
        return True

    def _find_victims(self) -> None:
        """Lists blocks that nobody used since this cache was opened: those of other shards first."""
        old = (
            (entry.name[:64] in self._shards, stat.st_mtime_ns, entry.path)
            for entry, stat in self._folder.blocks()
            if stat.st_mtime_ns < self._opened_ns
        )
        self._victims.extend(heapq.nsmallest(_VICTIMS, old))
        self._all_in_use = not self._victims  # no block grows older, so another scan would find none

    def _rest(self) -> None:
        self._rest_until = time.monotonic() + _REST_S

    def _stop(self, error: Exception) -> None:
        """Puts no more blocks, and says so the first time."""
        with self._stop_lock:  # several threads may meet the same full disk at once
            if self._stopped:
                return
            self._stopped = True
        _LOG.warning(
            "no more blocks are cached in %s (%s); going on without; mend the disk or lower cache_gb",
            self.root,
            getattr(error, "strerror", None) or error,
        )
