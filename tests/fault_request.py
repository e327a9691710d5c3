"""A request that a `FaultProxy` has seen: what it asks for, and what became of it."""

import re
import time
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from fault_plan import Fault
from http_wire import Head


@dataclass(kw_only=True)
class Request:
    """A request that the proxy has seen."""

    method: str
    path: str
    """``/BUCKET/KEY``, unquoted."""
    query: str
    range: tuple[int, int | None] | None
    """First and last byte asked for, of a ``Range: bytes=FIRST-LAST`` header."""
    if_match: str | None
    at: float
    """time.monotonic() at its arrival."""
    status: int = 0
    """Of the answer; 0 while or if there is none."""
    sent: int = 0
    """Bytes of the answer's body that were sent on."""
    fault: Fault | None = None
    """That struck it."""

    @property
    def start(self) -> int:
        """First byte asked for."""
        return self.range[0] if self.range else 0

    def place_of(self, fault: Fault) -> int:
        """Byte of the object at which the fault strikes this request's body."""
        return self.start if fault.offset is None else fault.offset

    def covers(self, offset: int) -> bool:
        """Whether the byte at `offset` is asked for."""
        last = self.range[1] if self.range else None
        return self.start <= offset and (last is None or offset <= last)


def request_of(head: Head) -> Request:
    """What a request's head says."""
    method, target, _ = head.first.split(" ", 2)
    url = urlsplit(target)
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", head.get("range"))
    asked = (int(found[1]), int(found[2]) if found[2] else None) if found else None
    return Request(
        method=method,
        path=unquote(url.path),
        query=url.query,
        range=asked,
        if_match=head.get("if-match") or None,
        at=time.monotonic(),
    )
