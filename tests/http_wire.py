"""HTTP/1.1 as raw bytes, understood as far as is needed to see where a message ends."""

import re
import select
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_PIECE = 64 << 10  # bytes received at once at most


@dataclass(frozen=True)
class Head:
    """First line and header fields of a message."""

    raw: bytes
    first: str
    fields: dict[str, str] = field(repr=False)  # may hold credentials

    def get(self, name: str) -> str:
        """A field's value, "" if there is none."""
        return self.fields.get(name, "")

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first.split(" ")[1])

    def shortened(self, length: int, end: int, range_too: bool) -> bytes:
        """The head of an answer whose body has `length` bytes and ends before `end`."""
        raw = re.sub(rb"(?im)^(content-length: *)\d+", rb"\g<1>%d" % length, self.raw)
        if range_too:
            raw = re.sub(rb"(?im)^(content-range: *bytes \d+-)\d+", rb"\g<1>%d" % max(end - 1, 0), raw)
        return raw


class Wire:
    """A socket, read message by message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._ahead = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.sock.sendall(data)

    def gone(self) -> bool:
        """Whether the other side has closed."""
        if not select.select([self.sock], [], [], 0)[0]:
            return False
        return not self.sock.recv(1, socket.MSG_PEEK)

    def head(self) -> Head | None:
        """The next message's head; None at the end of the connection."""
        while b"\r\n\r\n" not in self._ahead:
            if not self._more():
                return None
        raw, self._ahead = self._ahead.split(b"\r\n\r\n", 1)
        first, *lines = raw.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Head(raw + b"\r\n\r\n", first, fields)

    def body(self, head: Head, method: str = "") -> Iterator[bytes]:
        """The body that follows a head, framing included; `method` is that of the request answered."""
        answer = head.first.startswith("HTTP/")
        if answer and (method == "HEAD" or head.status in (204, 304)):
            return
        if "chunked" in head.get("transfer-encoding").lower():
            yield from self._chunks()
        elif head.get("content-length"):
            yield from self._take(int(head.get("content-length")))
        elif answer:
            yield from self._take(1 << 62)

    def _more(self) -> bool:
        data = self.sock.recv(_PIECE)
        self._ahead += data
        return bool(data)

    def _take(self, count: int) -> Iterator[bytes]:
        while count and (self._ahead or self._more()):
            piece, self._ahead = self._ahead[:count], self._ahead[count:]
            count -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        size = -1
        while size:
            while b"\r\n" not in self._ahead:
                if not self._more():
                    return
            line, self._ahead = self._ahead.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            yield line + b"\r\n"
            yield from self._take(size + 2)


def split(pieces: Iterable[bytes], at: int) -> Iterator[bytes]:
    """The same bytes, one piece beginning at byte `at`."""
    position = 0
    for piece in pieces:
        if 0 < at - position < len(piece):
            yield piece[: at - position]
            yield piece[at - position :]
        else:
            yield piece
        position += len(piece)
