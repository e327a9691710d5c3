"""Exact reads of one S3 object, in short ranged requests that go on where the last one stopped."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pack.storage.retry import Attempts, TransientError, bounded
from pack.storage.trouble import replaced
from recon.base.errors import UserError

REQUEST = 8 << 20  # bytes a ranged GET asks for at most


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
        self._end, self.version = start, version
        self._parts: list[memoryview] = []
        self._made = 0
        self.position = start
        """Offset of the next byte to come."""

    def fetch(self, end: int | None, attempts: Callable[[], Attempts]) -> memoryview:
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
        return self._parts[0] if len(self._parts) == 1 else memoryview(b"".join(self._parts))

    def _finished(self) -> bool:
        return self.position >= (min(self._end, self.version.total) if self.version else self._end)

    def _attempt(self, last: int, limit_s: float) -> None:
        if self.position > last:
            return  # the last piece came in the moment that its attempt was given up
        answer = _Answer(self._get, self.position, last, self.version)
        self._made += 1
        try:
            bounded(answer.receive, limit_s, self._explain)
        except UserError as error:
            asked = f"bytes {self.position} to {last}, attempt {self._made}"
            raise type(error)(f"{error} ({asked})") from None
        finally:
            self._take(answer)

    def _take(self, answer: "_Answer") -> None:
        """Keeps what an answer brought, be it all or not, if it is of the version that is read."""
        received = answer.abandon()
        if answer.version is not None:
            self._accept(answer.version)
            self._parts.append(received)
            self.position += len(received)

    def _accept(self, version: Version) -> None:
        known = self.version
        if known and known.etag == version.etag and known.etag and known.total != version.total:
            raise TransientError(f"answer tells {version.total} bytes for an object of {known.total}")
        self._pin(version)
        if known and known != version:
            raise replaced(self._where)
        self.version = version


class _Answer:
    """One ranged GET, received on another thread, which may be abandoned at any moment."""

    def __init__(self, get: Callable[..., Any], first: int, last: int, version: Version | None) -> None:
        self._get, self._first, self._last, self._asked = get, first, last, version
        self._body = memoryview(b"")
        self._received = 0
        self._abandoned = False
        self.version: Version | None = None
        """That the answer's head told."""

    def abandon(self) -> memoryview:
        """What has come. What comes from now on is thrown away, and its connection closed."""
        self._abandoned = True
        return self._body[: self._received]

    def receive(self) -> None:
        """Checks the answer's headers and receives its body as it comes."""
        match = {"IfMatch": self._asked.etag} if self._asked and self._asked.etag else {}
        answer = self._get(Range=f"bytes={self._first}-{self._last}", **match)
        rest = -1
        try:
            rest = self._reserve(answer)
            # The wrappers' reads wait for all bytes, however slowly they come, or copy them.
            body = answer["Body"]._raw_stream._fp
            while rest > 0 and not self._abandoned and (count := body.readinto1(self._body[-rest:])):
                rest -= count
                self._received += count
        finally:
            if rest == 0:
                answer["Body"]._raw_stream.release_conn()
            else:
                answer["Body"].close()  # not to be used again: unread bytes are in it
        if rest > 0:
            raise TransientError(f"body ended {rest} bytes early")

    def _reserve(self, answer: Any) -> int:
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
        self._body = np.empty(wanted - first + 1, np.uint8).data  # bytearray would write zeros
        self.version = Version(answer.get("ETag"), total)
        return len(self._body)
