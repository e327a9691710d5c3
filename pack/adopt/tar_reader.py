"""Reads whole tars that others wrote, from start to end, and hashes all bytes."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pack.shard.tar_members import Member, members
from pack.storage import Store

_PIECE = 8 << 20  # bytes of one request
_AHEAD = 4  # requests at a time, because one alone gets some 60 MB/s from a bucket


class TarReader:
    """One pass over a tar.

    Args:
        store: the store that holds the tar.
        name: name of the tar, with its suffix.
        size: size of the tar in bytes.
        on_read: called after each read with the number of bytes.

    Attributes:
        sha256: hash of the whole tar; it exists when `members` has ended.
    """

    def __init__(self, store: Store, name: str, size: int, on_read: Callable[[int], object]) -> None:
        self._stream = _Stream(store, name, size, on_read)
        self.where = self._stream.where

    def members(self) -> Iterator[Member]:
        """Yields every member; `payload` reads the one that was yielded last.

        Raises:
            UserError: the tar is cut or broken; the message names the byte.
        """
        yield from members(self._stream)
        self.sha256 = self._stream.sha256.hexdigest()

    def payload(self, member: Member) -> bytes:
        """The payload of the member that was yielded last."""
        return self._stream.read(member.offset, member.size)


class _Stream:
    """A tar that is read forward only, in large pieces and ahead. Skipped bytes are hashed too."""

    def __init__(self, store: Store, name: str, size: int, on_read: Callable[[int], object]) -> None:
        self.where = f"{store.url}/{name}"
        self.size = size
        self.sha256 = hashlib.sha256()
        self._pieces = _read_ahead(store, name, size)
        self._piece = memoryview(b"")
        self._place = 0  # next byte in the piece
        self._position = 0  # next byte in the tar
        self._on_read = on_read

    def read(self, position: int, length: int) -> bytes:
        """See `pack.shard.tar_members.TarBytes`."""
        assert position >= self._position, (position, self._position)
        for _ in self._take(position - self._position):
            pass  # skipped bytes must be hashed too
        parts = list(self._take(length))
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _take(self, size: int) -> Iterator[memoryview]:
        size = min(size, self.size - self._position)
        while size > 0:
            if self._place == len(self._piece):
                self._piece, self._place = next(self._pieces), 0
                self.sha256.update(self._piece)
                self._on_read(len(self._piece))
            part = self._piece[self._place : self._place + size]
            self._place += len(part)
            self._position += len(part)
            size -= len(part)
            yield part


def _read_ahead(store: Store, name: str, size: int) -> Iterator[memoryview]:
    """Yields the pieces of an object in their order; several are read at the same time."""
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="read")
    ahead: deque[Future[memoryview]] = deque()
    try:
        for start in range(0, size, _PIECE):
            ahead.append(pool.submit(store.read_range, name, start, min(_PIECE, size - start)))
            if len(ahead) == _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # The consumer may stop early: don't wait for reads that nobody needs.
        pool.shutdown(wait=False, cancel_futures=True)
