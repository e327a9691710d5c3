"""An endpoint that sends its readers elsewhere: a few requests, and one line that says where."""

import http.server
from typing import Any

import pytest
from pack_objects import put
from s3_site import Site

from pack.storage import Retry, Store, open_store
from recon.base.errors import UserError

MOST = 3  # requests of one call
LOCATION = "https://login.example.org:8443/sign-in?token=geheim"


@pytest.fixture(autouse=True)
def _redirecting(site: Site) -> None:
    site.status, site.headers["Location"], site.body = 301, LOCATION, b"<html>moved</html>"


def publish(store: Store) -> None:
    put(store, "a.tar", b"data")


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
    site.headers["Location"] = "/minio/login?next=geheim"
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
