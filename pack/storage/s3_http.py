"""HTTP for S3 that refuses an answer with a cut head (status line and headers), and copies no body.

If a connection ends within the head, Python's http.client takes this for the end of the head. The part that
came is then wrong: a list without names, a size with fewer digits, an object without an ETag.
"""

from http.client import HTTPResponse, RemoteDisconnected
from io import DEFAULT_BUFFER_SIZE
from typing import Any, cast

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)


def demand_whole_heads(client: Any) -> None:
    """Makes this boto3 client raise a connection error if a connection ends within an answer's head."""
    # Call it before the first request, because that makes the pool of connections.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_Pool, https=_TlsPool)


class _Lines:
    """The lines of a head, each of which must be whole. The connection may end before the first line only."""

    def __init__(self, file: Any, begun: bool = False) -> None:
        self._file = file
        self._begun = begun

    def readline(self, limit: int = 1 << 16) -> bytes:
        line: bytes = self._file.readline(limit)
        if not line.endswith(b"\n") and len(line) < limit and (line or self._begun):
            raise RemoteDisconnected("connection ended within the head of an answer")
        self._begun = True
        return line

    def close(self) -> None:
        self._file.close()


class _Answer(HTTPResponse):
    _may_hold = True  # the buffer of `fp` may hold bytes of the body, which came with the head

    def begin(self) -> None:
        received: Any = self.fp
        self.fp = lines = cast(Any, _Lines(received))
        try:
            super().begin()
        finally:
            if self.fp is lines:  # else http.client has closed the answer and set `fp` to None
                self.fp = received

    def readinto1(self, buffer: Any) -> int:
        """Receives the bytes that are there, without the copy that the standard library would make."""
        # Only a body of known length can be taken from the socket itself; chunks have lines in between.
        if self.fp is None or self.chunked or self.length is None:
            return super().readinto1(buffer)
        view, file = memoryview(buffer)[: self.length], cast(Any, self.fp)
        if self._may_hold:
            # Take the buffered bytes alone: if the socket failed in the same call, they would be lost.
            data = file.read1(min(len(view), DEFAULT_BUFFER_SIZE))
            self._may_hold, count = False, len(data)
            view[:count] = data
        else:
            count = file.readinto1(view)
        self.length -= count
        if not count or not self.length:
            self._close_conn()  # type: ignore[attr-defined]  # private, but what its own reads end with
        return count


class _WholeHeads:
    response_class = _Answer

    def _consume_headers(self, fp: Any) -> None:
        """Reads the headers of a 100 Continue; if they are cut, botocore would wait for the rest for ever."""
        super()._consume_headers(_Lines(fp, begun=True))  # type: ignore[misc]


class _Connection(_WholeHeads, AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    pass


class _TlsConnection(_WholeHeads, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _AsAnswered:
    def urlopen(self, *arguments: Any, **options: Any) -> Any:
        """Leaves redirects to botocore: on a 303, urllib3 (2.8) fails on botocore's headers."""
        return super().urlopen(*arguments, **options | {"redirect": False})  # type: ignore[misc]


class _Pool(_AsAnswered, AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _TlsPool(_AsAnswered, AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _TlsConnection
