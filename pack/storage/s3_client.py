"""Makes an S3 client from the AWS SDK's own environment variables and files."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from pack.storage.retry import Retry
from pack.storage.s3_errors import explained, no_credentials, without_user
from pack.storage.s3_http import demand_whole_heads
from recon.base.errors import UserError

_CONNECTIONS = 64  # kept open; further ones work too, but are closed after use
_REGION = "us-east-1"  # the default region of MinIO, SeaweedFS and most other stores


def connect(url: str, retry: Retry) -> Any:
    """Makes a thread-safe client that does not retry, because `pack.storage.retry` does.

    botocore finds endpoint, region, keys, profile and certificates.

    Raises:
        UserError: there are no credentials, or botocore can't use a variable or file.
    """
    _quiet()
    failure: Exception | None = None
    try:
        session = boto3.session.Session()
        if session.get_credentials() is None:
            failure = no_credentials(url)
        else:
            client = _client(session, retry)
            demand_whole_heads(client)
            # first: before botocore's own handler, which would ask for the region
            client.meta.events.register_first("needs-retry.s3", _ask_region_once)
            return client
    except (BotoCoreError, ValueError, OSError) as error:
        failure = error if isinstance(error, UserError) else explained(error, url, "")
    # Raised outside of `except`: botocore's text, which may hold a secret, must be in no chain of causes.
    raise failure if isinstance(failure, UserError) else UserError(f"can't open {url}: {failure}")


def endpoint_of(client: Any) -> str:
    """Scheme, host and path of the endpoint, without a user name or password."""
    return without_user(client.meta.endpoint_url)


def _client(session: Any, retry: Retry) -> Any:
    # botocore reads AWS_DEFAULT_REGION alone; the other AWS SDKs, and many machines of AWS, set AWS_REGION.
    region = session.region_name or os.environ.get("AWS_REGION") or _REGION
    client = session.client("s3", region_name=region, config=_config(retry))
    if "amazonaws.com" in endpoint_of(client) or _style(session):
        return client
    # Other stores seldom have a domain name for each bucket, but botocore's style "auto" expects it.
    config = _config(retry).merge(Config(s3={"addressing_style": "path"}))
    return session.client("s3", region_name=region, config=config)


def _ask_region_once(request_dict: Any, response: Any, operation: Any, **_: Any) -> None:
    """Stops botocore from asking for a bucket's region without end.

    If a redirect does not name the bucket's region, botocore (1.44) asks for it with HeadBucket, even if
    the redirect was the answer to a HeadBucket. A web server that redirects http to https, or a login page,
    would be asked for ever.
    """
    if response is None or operation.name != "HeadBucket":
        return
    if "x-amz-bucket-region" not in response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}):
        # botocore's own mark of a request that was already redirected
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def _config(retry: Retry) -> Config:
    return Config(
        retries={"total_max_attempts": 1},  # `Attempts` is the only layer of retries
        max_pool_connections=_CONNECTIONS,
        connect_timeout=retry.silence_s,
        read_timeout=retry.silence_s,
        tcp_keepalive=True,
        response_checksum_validation="when_required",  # stores keep no checksum of a range
    )


def _style(session: Any) -> str | None:
    """The addressing style of ~/.aws/config, if it has one."""
    options: Mapping[str, Any] = session._session.get_scoped_config()
    s3 = options.get("s3")
    return s3.get("addressing_style") if isinstance(s3, Mapping) else None


def _quiet() -> None:
    """Silences boto3's loggers.

    At INFO every process would log where it found its credentials, at DEBUG headers and signatures.
    """
    for name in ("boto3", "botocore", "s3transfer", "urllib3"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
