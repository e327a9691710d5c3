"""A raw TCP proxy before an S3 server that does what networks and overloaded servers do.

It forwards request bytes unchanged, Host header included, so that signatures hold. A `Fault` strikes the
first requests whose range of object bytes covers its absolute offset; a request meets one fault at most,
the one with the lowest offset. Each request is logged, so that tests can assert where a reader went on.
"""

import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from fault_plan import BODY_KINDS, BodyKind, Fault, FaultPlan, HeadKind, Kind, random_plan
from fault_request import Request, request_of
from http_wire import Head, Wire, split

__all__ = [
    "BodyKind",
    "CutError",
    "Fault",
    "FaultPlan",
    "FaultProxy",
    "HeadKind",
    "Kind",
    "Request",
    "random_plan",
]

Replace = Callable[[str], None]

TICK_S, TICK_BYTES = 0.05, 8  # of a trickle
_CODES = {
    400: ("Bad Request", "RequestTimeout"),
    403: ("Forbidden", "AccessDenied"),
    404: ("Not Found", "NoSuchKey"),
    408: ("Request Timeout", "RequestTimeout"),
    429: ("Too Many Requests", "SlowDown"),
    500: ("Internal Server Error", "InternalError"),
    501: ("Not Implemented", "NotImplemented"),
    503: ("Service Unavailable", "SlowDown"),
}


class CutError(Exception):
    """The connection to the client has ended, or has to; `reset` by RST."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("cut")
        self.reset = reset


class FaultProxy:
    """Listens on loopback and forwards to a server; a context manager.

    Args:
        upstream: host and port of the server.
        on_replace: called with ``/BUCKET/KEY`` to carry out ``replace``.
        port: to listen on; 0 takes any. It must not be of those that the kernel gives to clients where
            connections are to be refused for a while.
    """

    def __init__(self, upstream: tuple[str, int], on_replace: Replace | None = None, port: int = 0) -> None:
        self.upstream = upstream
        self.log: list[Request] = []
        self._on_replace = on_replace
        self._faults: list[tuple[Fault, list[int]]] = []  # with how often each struck
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = _listen(port)
        self.port: int = self._listener.getsockname()[1]
        self._refusing_until = 0.0
        self._refusing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept_all, name="fault-proxy")

    @property
    def endpoint(self) -> str:
        """URL to be used in place of the server's."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FaultProxy":
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._acceptor.join()
        self._cut_all()
        for thread in self._threads:
            thread.join()

    def plan(self, plan: FaultPlan | Fault | None = None, *more: Fault) -> None:
        """Replaces the faults by those given, none of which has struck yet, and empties the log."""
        faults = plan.faults if isinstance(plan, FaultPlan) else (*((plan,) if plan else ()), *more)
        ordered = sorted(faults, key=lambda fault: -1 if fault.offset is None else fault.offset)
        with self._lock:
            self._faults = [(fault, [0]) for fault in ordered]
            self.log = []

    def refuse(self, seconds: float | None = None) -> None:
        """Ends all connections and refuses new ones, until `accept()` or for so long; returns at once."""
        self._refusing_until = time.monotonic() + (float("inf") if seconds is None else seconds)
        assert self._refusing.wait(60), "the proxy does not come to refuse"

    def accept(self) -> None:
        """Ends a `refuse`."""
        self._refusing_until = 0.0
        while self._refusing.is_set():
            time.sleep(0.01)

    def requests(self, key: str = "", method: str = "GET") -> list[Request]:
        """The logged requests of objects whose key ends so."""
        with self._lock:
            return [one for one in self.log if one.method == method and one.path.endswith(key)]

    def starts(self, key: str = "") -> list[int]:
        """The first byte asked for by each GET of a key."""
        return [one.start for one in self.requests(key)]

    def sent(self, key: str = "") -> int:
        """Bytes of bodies sent to GETs of a key: with the bytes wanted, the read amplification."""
        return sum(one.sent for one in self.requests(key))

    # Connections

    def _accept_all(self) -> None:
        while not self._stopped.is_set():
            if time.monotonic() < self._refusing_until:
                self._listener.close()
                self._cut_all()
                self._refusing.set()
                while time.monotonic() < self._refusing_until and not self._stopped.wait(0.01):
                    pass
                self._listener = _listen(self.port)
                self._refusing.clear()
            if select.select([self._listener], [], [], 0.02)[0]:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), name="fault-proxy-client")
                with self._lock:
                    self._open.add(client)
                self._threads = [*(one for one in self._threads if one.is_alive()), thread]
                thread.start()
        self._listener.close()

    def _is_planned(self, fault: Fault) -> bool:
        with self._lock:
            return any(one is fault for one, _ in self._faults)

    def _cut_all(self) -> None:
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        reset = False
        try:
            wire = Wire(client)
            while self._exchange(wire):
                pass
        except CutError as cut:
            reset = cut.reset
        except OSError:  # either side has gone
            reset = True
        finally:
            with self._lock:
                self._open.discard(client)
            if reset:
                _drain(client)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

    # One request

    def _exchange(self, client: Wire) -> bool:
        """Forwards a request and its answer; whether the connection may carry another."""
        head = client.head()
        if not head:
            return False
        request = request_of(head)
        fault = self._fault_of(request)
        with self._lock:
            self.log.append(request)
        if fault and fault.kind == "status":
            return self._answer_status(client, head, request, fault)
        self._before(client, request, fault)
        with socket.create_connection(self.upstream) as upstream:
            with self._lock:
                self._open.add(upstream)
            try:
                return self._forward(client, Wire(upstream), head, request, fault)
            finally:
                with self._lock:
                    self._open.discard(upstream)

    def _fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            for fault, struck in self._faults:
                if (
                    fault.method == request.method
                    and request.path.endswith(fault.key)
                    and fault.query in request.query
                    and (fault.offset is None or request.covers(fault.offset))
                    and (fault.times is None or struck[0] < fault.times)
                ):
                    struck[0] += 1
                    request.fault = fault
                    return fault
        return None

    def _spare(self, request: Request, fault: Fault) -> None:
        """Takes a strike back: the answer has no body that it could strike."""
        with self._lock:
            request.fault = None
            for one, struck in self._faults:
                if one is fault:
                    struck[0] -= 1

    def _answer_status(self, client: Wire, head: Head, request: Request, fault: Fault) -> bool:
        for _ in () if head.get("expect") else client.body(head):
            pass
        reason, code = _CODES[fault.status]
        error = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>"
        text = b"" if request.method == "HEAD" else f'<?xml version="1.0"?>\n{error}'.encode()
        fields = f"Content-Type: application/xml\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
        request.status, request.sent = fault.status, len(text)
        client.send(f"HTTP/1.1 {fault.status} {reason}\r\n{fields}\r\n".encode() + text)
        return False

    def _before(self, client: Wire, request: Request, fault: Fault | None) -> None:
        """What happens before the server sees the request."""
        kind = fault.kind if fault else None
        if kind == "reset_head":
            raise CutError(reset=True)
        if fault and kind == "stall_head":
            self._wait(client, fault.seconds)
        elif fault and kind == "refuse":
            if self._is_planned(fault):  # else another plan came while this request was on its way
                self.refuse(fault.seconds)
            raise CutError(reset=True)
        elif kind == "replace":
            assert self._on_replace, "expected on_replace"
            self._on_replace(request.path)

    def _forward(self, client: Wire, server: Wire, head: Head, request: Request, fault: Fault | None) -> bool:
        server.send(head.raw)
        answer = server.head() if head.get("expect") else None
        refused = answer is not None and answer.status != 100  # so the client keeps the body
        if answer and not refused:
            if fault and fault.kind == "cut_head" and fault.head < len(answer.raw):
                client.send(answer.raw[: fault.head])
                raise CutError
            client.send(answer.raw)
        if not refused:
            for piece in client.body(head):
                server.send(piece)
            answer = server.head()
        if answer is None:
            raise CutError(reset=True)  # the server has died
        request.status = answer.status
        if fault and fault.kind == "lost_reply":
            for _ in server.body(answer, request.method):
                pass
            raise CutError(reset=True)
        if fault and fault.kind in BODY_KINDS and answer.status not in (200, 206):
            self._spare(request, fault)
            fault = None
        self._send_head(client, answer, request, fault)
        for piece in self._struck(client, server.body(answer, request.method), request, fault):
            request.sent += len(piece)  # before: the client may look as soon as it has the last byte
            client.send(piece)
        return answer.get("connection").lower() != "close" and not refused

    def _send_head(self, client: Wire, answer: Head, request: Request, fault: Fault | None) -> None:
        raw = answer.raw
        if fault and fault.kind in ("short", "short_range"):
            end = request.place_of(fault)
            raw = answer.shortened(end - request.start, end, fault.kind == "short_range")
        if fault and fault.kind == "cut_head":
            client.send(raw[: fault.head])
            raise CutError
        if fault and fault.kind == "trickle_head":
            self._trickle(client, raw, fault.seconds)
        else:
            client.send(raw)

    def _struck(
        self, client: Wire, pieces: Iterable[bytes], request: Request, fault: Fault | None
    ) -> Iterator[bytes]:
        """The pieces of a body that starts at the first byte asked for, the fault done to them."""
        if not fault or fault.kind not in BODY_KINDS:
            yield from pieces
            return
        position, place = request.start, request.place_of(fault)
        trickle_until = 0.0
        for piece in split(pieces, place - request.start):
            if position == place:
                if fault.kind in ("short", "short_range"):
                    return  # all that its head promised was sent
                piece = self._strike(client, fault, piece)
                trickle_until = time.monotonic() + (fault.seconds or 1e9) if fault.kind == "trickle" else 0.0
            position += len(piece)
            while piece and time.monotonic() < trickle_until:
                yield piece[:TICK_BYTES]
                piece = piece[TICK_BYTES:]
                self._wait(client, TICK_S)
            yield piece

    def _strike(self, client: Wire, fault: Fault, piece: bytes) -> bytes:
        """What becomes of the piece that starts at the fault's offset."""
        if fault.kind == "stall":
            self._wait(client, fault.seconds)
        elif fault.kind == "flip":
            return bytes([piece[0] ^ 1]) + piece[1:]
        elif fault.kind != "trickle":
            raise CutError(reset=fault.kind == "reset")
        return piece

    def _trickle(self, client: Wire, data: bytes, seconds: float | None) -> None:
        """Sends a head slowly, for so long; with `None` its end never comes, however long one waits."""
        until = time.monotonic() + (float("inf") if seconds is None else seconds)
        while len(data) > TICK_BYTES and time.monotonic() < until:
            client.send(data[:TICK_BYTES])
            data = data[TICK_BYTES:]
            self._wait(client, TICK_S)
        if seconds is None:
            self._wait(client, None)
        client.send(data)

    def _wait(self, client: Wire, seconds: float | None) -> None:
        """Waits so long; ends the connection when the client does, at the proxy's end, or after `None`."""
        until = time.monotonic() + (float("inf") if seconds is None else seconds)
        while (left := until - time.monotonic()) > 0:
            if self._stopped.wait(min(left, 0.02)) or client.gone():
                raise CutError


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def _drain(client: socket.socket) -> None:
    """Waits until the other side's kernel has all that was sent: RST throws away what has not."""
    with suppress(OSError):
        limit = time.monotonic() + 2
        while time.monotonic() < limit:
            if not struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4))[0]:
                return
            time.sleep(0.002)
