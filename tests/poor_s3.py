"""An S3 server in memory that does less than S3 does, as several real ones do."""

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from served import served

NOON = "Sun, 29 Nov 2026 12:00:0{} GMT"


@dataclass(kw_only=True)
class Manners:
    """What the server does otherwise than S3; a test may change it at any time."""

    etags: bool = True
    times: bool = True
    """Whether objects have a time of change: it grows by a second with each writing."""
    creates: Literal["once", "always", "by two"] = "once"
    """How it takes ``If-None-Match: *``. By two: of eight writers that come at once two succeed."""
    empty: int = 416
    """Status of a range of an empty object; 206 as s3rver answers it."""
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Content and the number of its writing, by path."""
    requests: list[str] = field(default_factory=list)
    """Methods and paths, in turn."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    manners: ClassVar[Manners]
    lock: ClassVar[threading.Lock]
    couple: ClassVar[threading.Barrier]

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.manners.requests.append(f"PUT {self.path}")
        with self.lock:
            taken = self.path in self.manners.objects
        if "If-None-Match" in self.headers and self.manners.creates != "always":
            if taken:
                return self._answer(412)
            if self.manners.creates == "by two" and "/.try-" in self.path:
                # All writers have looked before any writes.
                if self.couple.wait() > 1:
                    return self._answer(412)
        with self.lock:
            number = self.manners.objects.get(self.path, (b"", 0))[1] + 1
            if number > 1 and self.manners.creates == "once" and "If-None-Match" in self.headers:
                return self._answer(412)
            self.manners.objects[self.path] = data, number
        return self._answer(200, self._facts())

    def do_DELETE(self) -> None:
        self.manners.objects.pop(self.path, None)
        self._answer(204)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.manners.requests.append(f"{self.command} {self.path}")
        if self.path == "/bucket":
            return self._answer(200)
        if self.path not in self.manners.objects:
            return self._answer(404)
        data, facts = self.manners.objects[self.path][0], self._facts()
        if not (match := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))):
            length = {"Content-Length": str(len(data))}
            return self._answer(200, facts | length, data)
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        if not data and self.manners.empty == 206:
            # So s3rver: a byte is announced, none comes, and the connection ends.
            self.close_connection = True
            return self._answer(206, facts | {"Content-Length": "1", "Content-Range": "bytes 0-0/0"})
        if first > last:
            return self._answer(416)
        place = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return self._answer(206, facts | place, data[first : last + 1])

    def _facts(self) -> dict[str, str]:
        data, number = self.manners.objects[self.path]
        etag = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} if self.manners.etags else {}
        time = {"Last-Modified": NOON.format(number)} if self.manners.times else {}
        return etag | time


@contextmanager
def serving(manners: Manners) -> Iterator[str]:
    """Runs the server for the length of the block; gives its URL."""
    threads = {"lock": threading.Lock(), "couple": threading.Barrier(8)}
    handler = type("Handler", (_Handler,), {"manners": manners, **threads})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(name="manners")
def manners_of_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manners]:
    """A server's manners, to which ``s3://bucket`` leads."""
    manners = Manners()
    with serving(manners) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield manners
