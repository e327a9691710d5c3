"""An endpoint that sends its readers elsewhere: a few requests, and one line that says where."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pack.storage import Retry, open_store
from recon.base.errors import UserError

MOST = 3  # requests of one call


@dataclass
class Site:
    """What a server answers, and what it was asked."""

    endpoint: str = ""
    status: int = 301
    location: str = "https://login.example.org:8443/sign-in?token=geheim"
    body: bytes = b"<html>moved</html>"
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            site.asked.append(self.command)
            self.send_response(site.status)
            self.send_header("Location", site.location)
            self.send_header("Content-Length", str(len(site.body)))
            self.send_header("Connection", "close")  # or the client's pool outlives the test
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(site.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", site.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def publish(store: Any) -> None:
    with store.publish("a.tar") as file:
        file.write(b"data")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [b"<html>moved</html>", b""])
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.read("a.tar"),
        lambda store: store.read_range("a.tar", 0, 5),
        lambda store: store.exists("a.tar"),
        lambda store: store.names(),
        lambda store: store.remove("a.tar"),
        publish,
    ],
)
def test_redirect_of_the_endpoint_ends_soon_and_says_where_it_leads(
    site: Site, status: int, body: bytes, call: Any
) -> None:
    site.status, site.body = status, body
    store = open_store("s3://bucket/data", Retry(deadline_s=30, attempts=2))
    with pytest.raises(UserError) as told:
        call(store)
    line = str(told.value)
    assert line.startswith(f"wrong endpoint {site.endpoint} for s3://bucket/data")
    assert f"it redirects to https://login.example.org:8443/sign-in ({status}); set AWS_ENDPOINT_URL" in line
    assert "\n" not in line
    assert "geheim" not in line
    assert len(site.asked) <= MOST


def test_redirect_within_the_server_is_told_in_full(site: Site) -> None:
    site.location = "/minio/login?next=geheim"
    with pytest.raises(UserError, match=rf"it redirects to {site.endpoint}/minio/login \(301\)"):
        open_store("s3://bucket/data").read("a.tar")


def test_region_in_the_answer_is_followed_still(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore goes on to the bucket's region where the answer to HeadBucket names it."""
    sent = http.server.BaseHTTPRequestHandler.end_headers

    def end_headers(self: Any) -> None:
        if self.command == "HEAD":
            self.send_header("x-amz-bucket-region", "eu-central-1")
        sent(self)

    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "end_headers", end_headers)
    with pytest.raises(UserError, match="it redirects to"):
        open_store("s3://bucket/data").read("a.tar")
    assert site.asked == ["GET", "HEAD", "HEAD", "GET"]
