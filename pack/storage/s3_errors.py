"""Translates errors of botocore and S3 servers into ours, and decides whether another attempt may help.

Their own texts are never passed on: a server's may repeat keys and signatures, botocore's a whole URL.
"""

import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import botocore.exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from pack.storage.retry import TransientError
from pack.storage.trouble import replaced
from recon.base.errors import MissingError, UserError

_KEYS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for temporary ones), "
    "or AWS_PROFILE for a profile of ~/.aws/credentials"
)
# Error codes of AWS and of stores that imitate it. If an answer has no body, botocore (1.44) puts the
# HTTP status in place of the code, hence the numbers.
_THROTTLED = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "429",
}
_THROTTLED |= {"TooManyRequestsException", "RequestThrottled", "ThrottledException", "503"}
_PASSING = {"RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "IncompleteBody"}
_PASSING |= {"ConditionalRequestConflict", "BadDigest", "XAmzContentSHA256Mismatch", "RequestTimeTooSlow"}
_REFUSED_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"}
_EXPIRED_KEYS = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_OTHER_REGION |= {"301", "307", "TemporaryRedirect"}
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_KEYS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
_NO_LOGIN = (boto.SSOError, boto.NoAuthTokenError, boto.TokenRetrievalError)
_NO_CONNECTION = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)
_ON_THE_WAY = (boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError, HTTPError, OSError)
_TUNNEL = re.compile(r"Tunnel connection failed: (\d+)")  # of http.client, if a proxy refuses to connect


class PastEndError(UserError):
    """416: the range starts at or after the end of the object."""


class PreconditionError(UserError):
    """412: a condition failed: the object has another version, or exists although it should not."""


class RefusedError(UserError):
    """The store refuses a request for a reason that its code does not tell."""


class UnsupportedError(RefusedError):
    """501: the store does not support the request or one of its conditions."""


def code_of(error: Exception) -> str:
    """The S3 code of an error, such as NoSuchKey; the HTTP status if the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status of a server's answer, 0 if there was no answer."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def no_credentials(url: str) -> UserError:
    """The error if botocore finds no keys at all."""
    return UserError(f"no credentials for {url}: {_KEYS}")


def endpoint_variable() -> str:
    """The variable that tells the endpoint, or would: the first that is set of botocore's two."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next((name for name in names if os.environ.get(name)), names[-1])


def no_bucket(where: str, endpoint: str) -> UserError:
    """The error for a bucket that does not exist."""
    return UserError(f"bucket of {where} not found at {endpoint}: check the URL and {endpoint_variable()}")


def explained(error: Exception, where: str, endpoint: str) -> Exception:
    """Returns a TransientError if another attempt makes sense, else a UserError.

    Args:
        error: what botocore, urllib3 or the socket raised.
        where: the URL of the object or bucket.
        endpoint: scheme, host and path that were asked.

    Returns:
        `error` itself if it comes from none of these libraries: then it is a mistake in our code.
    """
    found = _explained(error, where, endpoint)
    proxy = get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme)
    if not proxy or not _may_be_of_a_proxy(error):
        return found
    return type(found)(
        f"{found}; the way goes through the proxy {without_user(proxy)}: check it, or leave it out by "
        f"NO_PROXY={urlsplit(endpoint).hostname}"
    )


def without_user(url: str) -> str:
    """Scheme, host and path of a URL, without user name, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _may_be_of_a_proxy(error: Exception) -> bool:
    """Whether an error can be that of a proxy: a broken connection, or an answer without a store's mark."""
    if isinstance(error, ClientError):
        return "x-amz-request-id" not in error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return isinstance(error, _ON_THE_WAY)


def _explained(error: Exception, where: str, endpoint: str) -> Exception:
    # Special errors come first, their base classes last.
    if isinstance(error, ClientError):
        if target := _redirect(error, endpoint):
            return UserError(
                f"wrong endpoint {endpoint} for {where}: it redirects to {target} ({status_of(error)}); "
                f"set {endpoint_variable()} to the storage itself"
            )
        return _answer(code_of(error), status_of(error), where, endpoint)
    if isinstance(error, _NO_KEYS):
        return no_credentials(where)
    if isinstance(error, boto.ProfileNotFound):
        return UserError(
            f"AWS_PROFILE names a profile that ~/.aws/config and ~/.aws/credentials lack; {_KEYS}"
        )
    if isinstance(error, _NO_LOGIN):
        return UserError(f"no valid login for {where}; run aws sso login, or {_KEYS}")
    if _untrusted(error):
        return UserError(
            f"wrong endpoint {endpoint}: its certificate can't be verified or it speaks no TLS; "
            f"check {endpoint_variable()} and AWS_CA_BUNDLE"
        )
    if isinstance(error, _NO_CONNECTION):
        return TransientError(
            f"can't reach endpoint {endpoint} ({_cause(error)}): check {endpoint_variable()} and the network"
        )
    if isinstance(error, ResponseParserError):
        return TransientError(f"{endpoint} does not answer as S3 does: check {endpoint_variable()}")
    # Bodies are read below botocore's wrappers, so the socket's own TimeoutError("timed out") may come here.
    if isinstance(error, boto.ReadTimeoutError) or "timed out" in str(error).lower():
        return TransientError("connection is silent")
    if isinstance(error, boto.HTTPClientError | boto.IncompleteReadError | HTTPError | OSError):
        return TransientError(f"connection broke ({_cause(error)})")
    if isinstance(error, boto.BotoCoreError | ValueError):
        return UserError(
            f"can't use {where} with these settings ({type(error).__name__}); check the URL, "
            f"{endpoint_variable()}, AWS_DEFAULT_REGION and ~/.aws/config"
        )
    return error


def _redirect(error: ClientError, endpoint: str) -> str:
    """The URL that an answer redirects to, without user and query, which may be secret; empty if none."""
    location = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("location", "")
    if not location or status_of(error) not in _REDIRECTS:
        return ""
    return without_user(urljoin(endpoint, location))


def complete(field: str, call: Callable[[], Any]) -> Any:
    """Returns the answer to a call after checking that it has `field`, which a whole answer always has.

    botocore accepts an empty body as an answer without fields. It would look like the end of a list, or like
    a success.
    """
    answer = call()
    if field not in answer:
        raise TransientError(f"answer without {field}: its body is missing")
    return answer


def _answer(code: str, status: int, where: str, endpoint: str) -> Exception:
    """The error for a server's answer with this code and status."""
    told = f"{status} {code}" if code != str(status) else code
    # Codes come before statuses: a 403 may also mean expired keys or a wrong clock.
    if code in _THROTTLED or status == 429:
        return TransientError(f"throttled ({told}): storage asks for fewer requests")
    if code in _PASSING or status in (408, 500, 502, 503, 504):
        return TransientError(f"server error ({told})")
    if code in _EXPIRED_KEYS:
        return UserError(f"credentials for {where} have expired ({told}): renew them; {_KEYS}")
    if code in _REFUSED_KEYS:
        return UserError(f"{endpoint} refuses the credentials for {where} ({told}): {_KEYS}")
    if code == "RequestTimeTooSkewed":
        return UserError(f"{endpoint} refuses requests for {where}: this machine's clock is wrong ({told})")
    if code in _OTHER_REGION:
        return UserError(
            f"wrong endpoint or region for {where} ({told}): check AWS_DEFAULT_REGION and "
            f"{endpoint_variable()}"
        )
    if code == "NoSuchBucket":
        return no_bucket(where, endpoint)
    if status == 403:
        return UserError(
            f"no permission for {where} ({told}): check the policy of these credentials (without "
            "s3:ListBucket, AWS gives this answer for a missing object, too)"
        )
    if status == 404:
        return MissingError(f"{where} not found ({told}): check the URL and {endpoint_variable()}")
    if status == 412:
        return PreconditionError(str(replaced(where)))
    if status == 416:
        return PastEndError(f"{where} ends before the range ({told})")
    refused = f"{endpoint} refused the request for {where} ({told}): check the URL and {endpoint_variable()}"
    return UnsupportedError(refused) if status == 501 else RefusedError(refused)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and those inside it, from all places where botocore and urllib3 put them."""
    seen: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and one not in seen:  # exceptions may refer to each other
            seen.append(one)
            below = one.kwargs.get("error") if isinstance(one, boto.BotoCoreError) else None
            pending += [below, getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]
            yield one


def _untrusted(error: Exception) -> bool:
    """Whether TLS failed for a reason that no other attempt can change."""
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return True
        # These reasons mean that the server speaks plain HTTP.
        if isinstance(one, ssl.SSLError) and one.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return True
    return False


def _cause(error: Exception) -> str:
    """The cause in a few words: the operating system's message if there is one, else the exception's name."""
    for one in _chain(error):
        if isinstance(one, socket.gaierror):
            return "its name can't be resolved"
        if isinstance(one, OSError) and (tunnel := _TUNNEL.search(str(one))):
            return f"its proxy refuses the connection: {tunnel[1]}"
        if isinstance(one, OSError) and not isinstance(one, HTTPError) and one.strerror and one.errno:
            return one.strerror
    return type(error).__name__
