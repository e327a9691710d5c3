"""Answers of stores and proxies that are easily misread: each is told as what it is, with its cure."""

from collections.abc import Callable

import pytest
from pack_objects import QUICK, put
from ports import free_ports
from s3_server import S3Env
from s3_site import Site

from pack.storage import Store, open_store
from pack.storage.s3_client import connect
from recon.base.errors import UserError

HOST = "http://s3.example.com"


def answer(site: Site, status: int, code: str) -> None:
    site.status = status
    site.body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode() if code else b""


def told(call: Callable[[Store], object]) -> str:
    """The line that a call ends with."""
    with pytest.raises(UserError) as caught:
        call(open_store("s3://bucket/data", QUICK))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def publish(store: Store) -> None:
    put(store, "a.tar", b"data")


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("ExpiredToken", "have expired"),
        ("AuthorizationHeaderMalformed", "check AWS_DEFAULT_REGION"),
        ("InvalidToken", "refuses the credentials"),
        ("SomethingElse", "check the URL and AWS_ENDPOINT_URL"),
    ],
)
@pytest.mark.parametrize("call", [lambda store: store.size("a.tar"), lambda store: store.exists("a.tar")])
def test_the_cause_of_a_400_is_told_although_head_has_no_body(
    site: Site,
    call: Callable[[Store], object],
    code: str,
    cure: str,
) -> None:
    answer(site, 400, code)
    line = told(call)
    assert f"400 {code}" in line
    assert cure in line


@pytest.mark.parametrize(
    ("variable", "other"),
    [("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"), ("AWS_ENDPOINT_URL_S3", ""), ("AWS_ENDPOINT_URL", "")],
)
@pytest.mark.parametrize(
    ("status", "code"), [(400, "SomethingElse"), (404, "NoSuchKey"), (404, "NoSuchBucket")]
)
def test_the_variable_to_check_is_the_one_that_told_the_endpoint(
    site: Site, monkeypatch: pytest.MonkeyPatch, status: int, code: str, variable: str, other: str
) -> None:
    answer(site, status, code)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):  # an empty one tells nothing
        monkeypatch.setenv(name, site.endpoint if name == variable else other)
    assert told(lambda store: store.read("a.tar")).count(f"check the URL and {variable} (") == 1


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidRequest"), (501, "NotImplemented"), (501, "")])
def test_a_store_that_refuses_checksums_is_told_with_the_variable_that_leaves_them_out(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
) -> None:
    answer(site, status, code)
    cure = "AWS_REQUEST_CHECKSUM_CALCULATION"
    assert f"{cure}=when_required" in told(publish)
    assert cure not in told(lambda store: store.read("a.tar"))
    monkeypatch.setenv(cure, "when_required")
    assert cure not in told(publish)


@pytest.mark.parametrize("status", [403, 407, 503])
def test_an_answer_that_may_be_the_proxys_names_the_proxy_and_how_to_leave_it_out(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    answer(site, status, "")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", HOST)
    monkeypatch.setenv("HTTP_PROXY", site.endpoint.replace("//", "//user:geheim@"))
    for call in (lambda store: store.read("a.tar"), lambda store: store.exists("a.tar"), publish):
        line = told(call)
        assert f"the proxy {site.endpoint}: check it, or leave it out by NO_PROXY=s3.example.com" in line
        assert "geheim" not in line
    site.headers["x-amz-request-id"] = "1"  # so it is the store itself
    assert "proxy" not in told(lambda store: store.read("a.tar"))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("refusing", [True, False])
def test_a_dead_or_refusing_proxy_is_not_taken_for_the_endpoint(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    refusing: bool,
) -> None:
    answer(site, 403, "")
    proxy = site.endpoint if refusing else f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", HOST.replace("http", scheme))
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy)
    assert f"the proxy {proxy}: check it, or leave it out by NO_PROXY=" in told(lambda store: store.size("a"))


def test_an_endpoint_that_no_proxy_serves_is_told_without_one(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(site, 403, "")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "proxy" not in told(lambda store: store.read("a.tar"))


@pytest.mark.usefixtures("site")
def test_region_is_that_of_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = []
    for name in ("", "AWS_REGION", "AWS_DEFAULT_REGION"):
        if name:
            monkeypatch.setenv(name, f"eu-{name.count('_')}")
        regions.append(connect("s3://bucket", QUICK).meta.region_name)
    assert regions == ["us-east-1", "eu-1", "eu-2"]


def test_the_path_of_an_endpoint_is_told_too(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(site, 418, "")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{site.endpoint}/store/")
    assert told(lambda store: store.read("a.tar")).startswith(f"{site.endpoint}/store refused the request")


@pytest.mark.parametrize("name", ["a\nb.tar", "a\tb.tar", "a b+c%.tar"])
def test_odd_letters_in_a_key_are_kept(s3_env: S3Env, name: str) -> None:
    store = open_store(f"{s3_env.url}/x y", QUICK)
    put(store, name, b"data")
    assert (store.read(name), store.exists(name), store.names()) == (b"data", True, [name])
