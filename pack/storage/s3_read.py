"""Exact reads of one S3 object, in short ranged requests that go on where the last one stopped."""

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

from pack.storage.retry import Attempts, TransientError, bounded
from pack.storage.trouble import replaced
from recon.errors import UserError

REQUEST = 8 << 20  # bytes a ranged GET asks for at most
_PIECE = 256 << 10  # bytes taken from the socket at most before they count as received


@dataclass(frozen=True)
class Version:
    """What tells one version of an object from another."""

    etag: str | None
    total: int
    """Bytes of the whole object."""


class ObjectReader:
    """Reads a range of one object.

    Args:
        get: botocore's get_object, its bucket and key bound.
        explain: names the errors of `get`.
        where: URL of the object.
        start: first byte.
        version: the pinned one, if it is known already.
        pin: called with the version of every answer; raises if it is not the pinned one.
    """

    def __init__(
        self,
        get: Callable[..., Any],
        explain: Callable[[Exception], Exception],
        where: str,
        start: int,
        version: Version | None,
        pin: Callable[[Version], None],
    ) -> None:
        self._get, self._explain, self._where, self._pin = get, explain, where, pin
        self._start, self._end, self.version = start, 0, version
        self._reserved = False
        self._made = 0
        self._received = BytesIO()  # hands its bytes over without copying them

    @property
    def position(self) -> int:
        """Offset of the next byte to come."""
        return self._start + self._received.tell()

    def fetch(self, end: int | None, attempts: Callable[[], Attempts]) -> bytes:
        """The bytes up to `end` or, if that is less or None, to the end of the object.

        Args:
            end: one past the last byte.
            attempts: called for each request, which go by its limits.
        """
        self._end = sys.maxsize if end is None else end
        while not self._finished():
            last = min(self.position + REQUEST, self._end) - 1
            if self.version:
                last = min(last, self.version.total - 1)
            attempts().run(
                partial(self._attempt, last),
                f"can't read {self._where}, bytes {self.position} to {last}",
                lambda: self.position,
            )
        self._received.truncate()
        return self._received.getvalue()

    def _finished(self) -> bool:
        return self.position >= (min(self._end, self.version.total) if self.version else self._end)

    def _attempt(self, last: int, limit_s: float) -> None:
        if self.position > last:
            return  # the last piece came in the moment that its attempt was given up
        answer = _Answer(self._get, self.position, last, self.version, self._accept, self._received.write)
        self._made += 1
        try:
            bounded(answer.receive, limit_s, self._explain)
        except UserError as error:
            asked = f"bytes {self.position} to {last}, attempt {self._made}"
            raise type(error)(f"{error} ({asked})") from None
        finally:
            answer.abandon()

    def _accept(self, version: Version) -> None:
        known = self.version
        if known and known.etag == version.etag and known.etag and known.total != version.total:
            raise TransientError(f"answer tells {version.total} bytes for an object of {known.total}")
        self._pin(version)
        if known and known != version:
            raise replaced(self._where)
        self.version = version
        if not self._reserved:
            self._received.seek(min(self._end, version.total) - self._start - 1)
            self._received.write(b"\0")
            self._received.seek(0)
            self._reserved = True


class _Answer:
    """One ranged GET, received on another thread, which may be abandoned at any moment."""

    def __init__(
        self,
        get: Callable[..., Any],
        first: int,
        last: int,
        version: Version | None,
        accept: Callable[[Version], None],
        write: Callable[[bytes], object],
    ) -> None:
        self._get, self._first, self._last = get, first, last
        self._version, self._accept, self._write = version, accept, write
        self._abandoned = False
        self._lock = threading.Lock()

    def abandon(self) -> None:
        """What comes from now on is thrown away, and its connection closed."""
        with self._lock:
            self._abandoned = True

    def receive(self) -> None:
        """Checks the answer's headers and receives its body, in pieces as they come."""
        match = {"IfMatch": self._version.etag} if self._version and self._version.etag else {}
        answer = self._get(Range=f"bytes={self._first}-{self._last}", **match)
        # The wrapper's read(n) waits for all n bytes, however slowly they come.
        body = answer["Body"]._raw_stream
        rest = -1
        try:
            rest = self._expected(answer)
            while rest > 0 and (data := body.read1(min(_PIECE, rest))):
                rest -= len(data)
                if not self._add(data):
                    return
        finally:
            if rest != 0:
                answer["Body"].close()  # not to be used again: unread bytes are in it
        if rest > 0:
            raise TransientError(f"body ended {rest} bytes early")

    def _add(self, data: bytes) -> bool:
        with self._lock:
            if not self._abandoned:
                self._write(data)
            return not self._abandoned

    def _expected(self, answer: Any) -> int:
        """Bytes that are to come, by the headers, which are checked against what was asked for."""
        found, length = str(answer.get("ContentRange", "none")), answer.get("ContentLength", 0)
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", found)
        first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
        wanted = min(self._last, total - 1)  # less may come, and says so; the next attempt asks for the rest
        if first != self._first or not first <= last <= wanted or length > last - first + 1:
            raise TransientError(
                f"wrong Content-Range {found!r} (Content-Length {length}) to a request of "
                f"bytes {self._first}-{self._last}"
            )
        with self._lock:
            if not self._abandoned:
                self._accept(Version(answer.get("ETag"), total))
        return wanted - first + 1
