"""What pack/storage takes from the insides of botocore, urllib3 and http.client is still there.

A name that is gone would mend itself into silence: heads cut short would pass for whole ones. Where a test
fails here, look at pack/storage/s3_http.py, s3_client.py and s3_read.py before the bound in pyproject.toml
is raised.
"""

from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from botocore import awsrequest
from botocore.response import StreamingBody
from botocore.utils import S3RegionRedirectorv2
from s3_server import S3Env

from pack.storage import S3Store
from pack.storage.s3_http import _Answer, _Pool, _TlsPool

TOLD = f"boto3 {boto3.__version__}, botocore {botocore.__version__} lacks"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    session = boto3.session.Session()
    assert hasattr(session, "_session"), f"{TOLD} Session._session (s3_client._style)"
    assert hasattr(session._session, "get_scoped_config"), f"{TOLD} get_scoped_config (s3_client._style)"
    return session.client("s3", region_name="us-east-1")


def test_client_has_the_pools_that_are_replaced(client: Any) -> None:
    assert hasattr(client, "_endpoint"), f"{TOLD} client._endpoint (s3_http)"
    session = client._endpoint.http_session
    pools = getattr(session, "_pool_classes_by_scheme", None)
    assert pools is not None, f"{TOLD} http_session._pool_classes_by_scheme (s3_http)"
    assert set(pools) == {"http", "https"}
    assert session._manager.pool_classes_by_scheme is pools, (
        f"{TOLD} a manager that takes its pools (s3_http)"
    )


def test_connections_have_the_methods_that_are_replaced() -> None:
    for name in ("AWSHTTPConnection", "AWSHTTPSConnection"):
        connection = getattr(awsrequest, name, None)
        assert connection is not None, f"{TOLD} awsrequest.{name} (s3_http)"
        assert hasattr(connection, "_consume_headers"), f"{TOLD} {name}._consume_headers (s3_http)"
        assert hasattr(connection, "response_class"), f"{TOLD} {name}.response_class (s3_http)"
    for pool in (_Pool, _TlsPool):
        assert "ConnectionCls" in vars(pool.__mro__[2]), f"{TOLD} {pool.__mro__[2].__name__}.ConnectionCls"
    assert hasattr(HTTPResponse, "_close_conn"), "http.client lacks HTTPResponse._close_conn (s3_http)"


def test_redirects_are_marked_where_botocore_looks(client: Any) -> None:
    assert hasattr(S3RegionRedirectorv2, "redirect_from_error"), f"{TOLD} S3RegionRedirectorv2 (s3_client)"
    seen: list[dict[str, Any]] = []
    client.meta.events.register_first("before-call.s3", lambda **told: seen.append(told["context"]))
    client.meta.events.register_first("before-send.s3", lambda **_: _stop())
    with pytest.raises(InterruptedError):
        client.head_bucket(Bucket="bucket")
    assert "redirected" in seen[0].get("s3_redirect", {}), f"{TOLD} context s3_redirect (s3_client)"


def _stop() -> None:
    raise InterruptedError


def test_answers_come_through_our_own_class_and_can_be_read_raw(s3_env: S3Env) -> None:
    s3_env.put("a.tar", b"data")
    store = S3Store(s3_env.url)
    body = store._client.get_object(**store._target("a.tar"))["Body"]
    assert isinstance(body, StreamingBody)
    assert hasattr(body, "_raw_stream"), f"{TOLD} StreamingBody._raw_stream (s3_read)"
    raw = getattr(body._raw_stream, "_fp", None)
    assert isinstance(raw, _Answer), f"{TOLD} _raw_stream._fp, or another pool was used (s3_read, s3_http)"
    assert raw.readinto1(memoryview(bytearray(10))) == 4
    body._raw_stream.release_conn()
    store._client.close()
