"""Reads tars that others wrote, from start to end, and names what is wrong with one.

`tarfile` and so plain `webdataset` take a broken header or a missing end for the end of the tar, in
silence, and what comes after it is lost. Here each is an error with its place.
"""

import hashlib
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from pack.shard.tar_header import HEADER, read_header
from pack.storage import Store
from recon.base.errors import UserError

_PIECE = 8 << 20  # bytes a request
_AHEAD = 4  # requests under way: one stream of a bucket gives some 60 MB/s
_LONGEST_HEADER = 1 << 20  # bytes of names and attributes before a member
_AGAIN = "fetch or write it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member of a tar."""

    name: str
    """All of it, from however many headers."""
    header: str
    """The name in the header right before the payload: cut, or with other letters, where the name is odd."""
    offset: int
    """Of the payload, in bytes from the tar's start."""
    size: int
    is_file: bool
    """A plain file, which is all that WebDataset reads."""


class TarReader:
    """One pass over a tar.

    Args:
        store: where it lies.
        name: of the tar, with its suffix.
        size: of the tar, in bytes.
        on_read: called with the bytes of each piece that was read.

    Attributes:
        sha256: of the whole tar, once `members` has ended.
    """

    def __init__(self, store: Store, name: str, size: int, on_read: Callable[[int], object]) -> None:
        self.where = f"{store.url}/{name}"
        self.size = size
        self._stream = _Stream(store, name, size, on_read)

    def members(self) -> Iterator[Member]:
        """Yields every member; `payload` reads the latest.

        Raises:
            UserError: the tar is cut or broken; the error tells the byte.
        """
        file: Any = self._stream
        headers = _Headers(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape")
        while (info := self._next(headers)) is not None:
            yield Member(
                name=info.name,
                header=read_header(self._stream.header).name,
                offset=info.offset_data,
                size=info.size,
                is_file=info.isreg(),
            )
            self._stream.skip(headers.offset - self._stream.tell())
        self._check_end()
        self.sha256 = self._stream.sha256.hexdigest()

    def payload(self, member: Member) -> bytes:
        """The payload of the member that was yielded last."""
        assert self._stream.tell() == member.offset
        return self._stream.read_payload(member.size)

    def _next(self, headers: "_Headers") -> tarfile.TarInfo | None:
        """The next member; None at the mark of the end."""
        start = self._stream.tell()
        try:
            info = tarfile.TarInfo.fromtarfile(headers)
        except tarfile.HeaderError as error:
            if start >= self.size:
                raise self._cut(f"it ends at byte {self.size} without the mark of a tar's end") from None
            if self._stream.is_zero_header(start):
                return None
            raise self._broken(start, error) from None
        except (ValueError, OverflowError, IndexError) as error:
            raise self._broken(start, error) from error
        if info.issparse():
            raise UserError(f"{self.where}: {info.name} is stored as a sparse file; write the tar without")
        if info.size < 0:
            raise self._broken(start, ValueError(f"a size of {info.size}"))
        if headers.offset > self.size:
            raise self._cut(
                f"member {info.name} reaches to byte {headers.offset}, but the tar ends at {self.size}"
            )
        return info

    def _cut(self, what: str) -> UserError:
        return UserError(f"{self.where} was cut: {what}; {_AGAIN}")

    def _broken(self, start: int, error: Exception) -> UserError:
        if start == 0 and self._stream.header[:2] == b"\x1f\x8b":
            return UserError(
                f"{self.where} is compressed, so pairs can't be read by their place; decompress it"
            )
        return UserError(f"{self.where}: broken tar header at byte {start} ({error}); {_AGAIN}")

    def _check_end(self) -> None:
        """Nothing may come after the mark of the end."""
        end = self._stream.tell() - HEADER
        while piece := self._stream.read_payload(min(_PIECE, self.size - self._stream.tell())):
            if np.frombuffer(piece, np.uint8).any():
                raise UserError(
                    f"{self.where}: data after the mark of a tar's end at byte {end}: it is several tars "
                    f"in one file, or zeros stand where a header was; {_AGAIN}"
                )


class _Headers(tarfile.TarFile):
    """What `tarfile.TarInfo.fromtarfile` reads from. `TarFile.next` would swallow what it raises."""

    def next(self) -> None:
        """Nothing: the constructor asks for a first member."""


class _Stream:
    """A tar as a file that is read forward only, in large pieces read ahead."""

    def __init__(self, store: Store, name: str, size: int, on_read: Callable[[int], object]) -> None:
        self.size = size
        self.header = b""
        """The block of 512 bytes that was read last as a header."""
        self.sha256 = hashlib.sha256()
        self._pieces = _read_ahead(store, name, size)
        self._piece = memoryview(b"")
        self._place = 0  # in the piece
        self._position = 0  # in the tar
        self._on_read = on_read

    def tell(self) -> int:
        """Bytes read or skipped so far."""
        return self._position

    def read(self, size: int) -> bytes:
        """Bytes of headers, for `tarfile`; fewer at the end of the tar."""
        if size > _LONGEST_HEADER:
            raise tarfile.HeaderError(f"a header of {size} bytes")
        data = self.read_payload(size)
        if size == HEADER:
            self.header = data
        return data

    def read_payload(self, size: int) -> bytes:
        """The next bytes; fewer at the end of the tar."""
        parts = list(self._take(size))
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def skip(self, size: int) -> None:
        """Leaves bytes out."""
        for _ in self._take(size):
            pass

    def is_zero_header(self, start: int) -> bool:
        """Whether the header that begins at `start` was read just now and is all zeros."""
        return self._position == start + HEADER and not any(self.header)

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
    """The pieces of an object in their order, some read at a time."""
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
        pool.shutdown(wait=False, cancel_futures=True)
