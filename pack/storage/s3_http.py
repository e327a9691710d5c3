"""HTTP for S3 that takes the head of an answer only if it came whole, and copies no body.

Python's http.client takes the end of a connection within a head for the head's end. What is left of it
then lies: a list without names, a size of fewer digits, an object without an ETag.
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
    """Makes a connection that ends within a head an error of the connection, for this client of boto3."""
    # Before the first request: pools of connections are made when they are needed.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_Pool, https=_TlsPool)


class _Lines:
    """The lines of a head, each of which must be whole; before the first, the connection may end."""

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
    _may_hold = True  # bytes of the body, in its buffer

    def begin(self) -> None:
        received: Any = self.fp
        self.fp = lines = cast(Any, _Lines(received))
        try:
            super().begin()
        finally:
            if self.fp is lines:  # not closed
                self.fp = received

    def readinto1(self, buffer: Any) -> int:
        """Receives what is there, without a copy in between, as the standard library's would make."""
        if self.fp is None or self.chunked or self.length is None:
            return super().readinto1(buffer)
        view, file = memoryview(buffer)[: self.length], cast(Any, self.fp)
        if self._may_hold:  # came with the head; alone, or an error of the socket would take it along
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
        """Those of a 100 Continue, which botocore would wait for until the end of time."""
        super()._consume_headers(_Lines(fp, begun=True))  # type: ignore[misc]


class _Connection(_WholeHeads, AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    pass


class _TlsConnection(_WholeHeads, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _AsAnswered:
    def urlopen(self, *arguments: Any, **options: Any) -> Any:
        """Leaves redirects to botocore: urllib3 trips over its headers on a 303 before it gives up."""
        return super().urlopen(*arguments, **options | {"redirect": False})  # type: ignore[misc]


class _Pool(_AsAnswered, AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _TlsPool(_AsAnswered, AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _TlsConnection
