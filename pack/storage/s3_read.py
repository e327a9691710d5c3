"""Exact reads of one S3 object by short ranged requests, each of which begins where the last one stopped."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from pack.storage.retry import Attempts, TransientError, bounded
from pack.storage.trouble import replaced
from recon.base.errors import UserError

REQUEST = 8 << 20  # bytes that one ranged GET asks for at most


@dataclass(frozen=True)
class Version:
    """Identifies one version of an object."""

    etag: str | None
    total: int
    """Bytes of the whole object."""
    modified: datetime | None = None
    """The time of its last change, to the second; only where the store gives no ETag."""


class ObjectReader:
    """Reads a range of one object.

    Args:
        get: botocore's get_object with bucket and key filled in.
        explain: translates the exceptions of `get` into ours.
        where: URL of the object.
        start: first byte.
        version: the pinned version, if there is one already.
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
        self._end, self.version = start, version
        self._parts: list[memoryview] = []
        self._made = 0
        self.position = start
        """Offset of the next byte to receive."""

    def fetch(self, end: int | None, attempts: Callable[[], Attempts]) -> memoryview:
        """Returns the bytes up to `end`, or to the end of the object if that comes first or `end` is None.

        Args:
            end: one past the last byte.
            attempts: called before each request; its result limits the request.
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
        return self._parts[0] if len(self._parts) == 1 else memoryview(b"".join(self._parts))

    def _finished(self) -> bool:
        return self.position >= (min(self._end, self.version.total) if self.version else self._end)

    def _attempt(self, last: int, limit_s: float) -> None:
        if self.position > last:
            return  # the last bytes came just when their attempt was given up
        answer = _Answer(self._get, self.position, last, self.version)
        self._made += 1
        try:
            bounded(answer.receive, limit_s, self._explain)
        except UserError as error:
            asked = f"bytes {self.position} to {last}, attempt {self._made}"
            raise type(error)(f"{error} ({asked})") from None
        finally:
            self._take(answer)  # after a failure too, so that no byte is fetched twice

    def _take(self, answer: "_Answer") -> None:
        """Keeps the bytes of an answer, complete or not, after checking the version that they are of."""
        received = answer.abandon()
        if answer.version is not None:
            self._accept(answer.version)
            self._parts.append(received)
            self.position += len(received)

    def _accept(self, version: Version) -> None:
        known = self.version
        # One ETag with two sizes: this answer is wrong, but the object was not replaced.
        if known and known.etag == version.etag and known.etag and known.total != version.total:
            raise TransientError(f"answer states {version.total} bytes for an object of {known.total}")
        self._pin(version)
        if known and known != version:
            raise replaced(self._where)
        self.version = version


class _Answer:
    """One ranged GET. Another thread receives it, and it may be abandoned at any moment."""

    def __init__(self, get: Callable[..., Any], first: int, last: int, version: Version | None) -> None:
        self._get, self._first, self._last, self._asked = get, first, last, version
        self._body = memoryview(b"")
        self._received = 0
        self._abandoned = False
        self.version: Version | None = None
        """The version that the answer's headers give, once they have come."""

    def abandon(self) -> memoryview:
        """Returns the bytes received so far. Later bytes are thrown away, and the connection is closed."""
        # The receiving thread may write one more piece, but only behind these bytes.
        self._abandoned = True
        return self._body[: self._received]

    def receive(self) -> None:
        """Checks the answer's headers, then receives its body piece by piece."""
        match = {"IfMatch": self._asked.etag} if self._asked and self._asked.etag else {}
        answer = self._get(Range=f"bytes={self._first}-{self._last}", **match)
        rest = -1  # unknown until the headers are checked
        try:
            rest = self._reserve(answer)
            # Read below the wrappers of botocore and urllib3: their reads wait until all bytes have come,
            # however slowly, or copy them.
            body = answer["Body"]._raw_stream._fp
            while rest > 0 and not self._abandoned and (count := body.readinto1(self._body[-rest:])):
                rest -= count
                self._received += count
        finally:
            if rest == 0 and self._received:
                answer["Body"]._raw_stream.release_conn()
            else:
                answer["Body"].close()  # unread bytes may be left in the connection: nobody may use it again
        if rest > 0:
            raise TransientError(f"body ended {rest} bytes early")

    def _reserve(self, answer: Any) -> int:
        """Checks the headers against the request and returns the bytes that the body will have."""
        found, length = str(answer.get("ContentRange", "none")), answer.get("ContentLength", 0)
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", found)
        first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
        # A server may announce fewer bytes than were asked for; the next attempt asks for the rest.
        wanted = min(self._last, total - 1)
        size = wanted - first + 1 if total else 0
        fits = first == self._first and first <= last <= wanted and length <= last - first + 1
        # s3rver answers "bytes 0-0/0" for an empty object, where S3 answers 416.
        if not fits and total != 0:
            raise TransientError(
                f"wrong Content-Range {found!r} (Content-Length {length}) to a request of "
                f"bytes {self._first}-{self._last}"
            )
        self._body = np.empty(size, np.uint8).data  # a bytearray would write zeros first
        etag = answer.get("ETag") or None  # some stores send an empty one
        self.version = Version(etag, total, None if etag else answer.get("LastModified"))
        return len(self._body)
