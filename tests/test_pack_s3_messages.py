"""What a bucket that can't be read or written says: each failure in its own words, without a secret."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from pack_objects import DATA, QUICK, put
from ports import free_ports
from s3_server import ADMIN, READER, Identity, S3Env

from pack.storage import Store, open_store
from recon.base.errors import UserError


def wrong_secret(env: S3Env) -> str:
    env.use(Identity("admin", ADMIN.access_key, "not-the-secret-Xy77", ()))
    return env.url


def unknown_key(env: S3Env) -> str:
    env.use(Identity("none", "NobodyAccessKey0", "nobody-secret-Xy77", ()))
    return env.url


def no_credentials(env: S3Env) -> str:
    env.monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    env.monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return env.url


def closed_port(env: S3Env) -> str:
    env.use(endpoint=f"http://127.0.0.1:{free_ports(1)[0]}")
    return env.url


def no_such_host(env: S3Env) -> str:
    env.use(endpoint="http://no-such-host.invalid:9000")
    return env.url


def no_url(env: S3Env) -> str:
    env.use(endpoint="127.0.0.1:9000")
    return env.url


def other_service(env: S3Env) -> str:
    env.use(endpoint=f"http://127.0.0.1:{env.server.ports['master']}")
    return env.url


def tls(env: S3Env) -> str:
    env.use(endpoint=env.server.endpoint.replace("http:", "https:"))
    return env.url


def unknown_profile(env: S3Env) -> str:
    env.monkeypatch.setenv("AWS_PROFILE", "nobody")
    return env.url


def missing_bucket(_: S3Env) -> str:
    return "s3://no-such-bucket-here/data"


def bad_bucket(_: S3Env) -> str:
    return "s3://No_Bucket!/data"


def missing_object(env: S3Env) -> str:
    return env.url


READS = {
    missing_object: r"s3://.*/a\.tar not found",
    missing_bucket: r"bucket .*s3://no-such-bucket-here.* not found",
    bad_bucket: r"s3://No_Bucket!",
    wrong_secret: r"refuses the credentials .*SignatureDoesNotMatch",
    unknown_key: r"refuses the credentials .*InvalidAccessKeyId",
    no_credentials: r"no credentials for s3://",
    closed_port: r"can't reach endpoint http://127\.0\.0\.1:\d+ .*AWS_ENDPOINT_URL",
    no_such_host: r"can't reach endpoint http://no-such-host\.invalid:9000 .*AWS_ENDPOINT_URL",
    no_url: r"AWS_ENDPOINT_URL",
    other_service: r"AWS_ENDPOINT_URL",
    tls: r"wrong endpoint https://.*AWS_ENDPOINT_URL",
    unknown_profile: r"AWS_PROFILE",
}


def failures(url: str, *calls: Callable[[Store], object]) -> list[UserError]:
    """What each call raises, or what opening the store does."""
    try:
        store = open_store(url, QUICK)
    except UserError as error:
        return [error]
    found = []
    for call in calls:
        with pytest.raises(UserError) as caught:
            call(store)
        found.append(caught.value)
    return found


def assert_no_secret(errors: list[UserError], caplog: pytest.LogCaptureFixture) -> None:
    """No secret key and no signature in any exception, its causes included, or in the log."""
    chains = ["".join(traceback.format_exception(error)) for error in errors]
    text = "\n".join([*chains, *map(repr, errors), caplog.text]).lower()
    secrets = [ADMIN.secret_key, READER.secret_key, "not-the-secret-Xy77", "nobody-secret-Xy77"]
    for secret in (*secrets, "signature=", "authorization:"):
        assert secret.lower() not in text


@pytest.mark.parametrize("broken", READS, ids=lambda one: one.__name__)
def test_each_failure_of_reading_has_its_own_words_and_tells_no_secret(
    s3_env: S3Env, broken: Callable[[S3Env], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = broken(s3_env)
    calls: list[Callable[[Store], object]] = [
        lambda store: store.read("a.tar"),
        lambda store: store.read_range("a.tar", 0, 5),
        lambda store: store.size("a.tar"),
    ]
    if broken is not missing_object:
        calls += [lambda store: store.exists("a.tar"), lambda store: store.names()]
    errors = failures(url, *calls)
    for error in errors:
        assert "\n" not in str(error)
        assert error.__cause__ is None or isinstance(error.__cause__, UserError)
    with pytest.raises(UserError, match=READS[broken]):
        raise errors[0]
    with pytest.raises(UserError, match=READS[broken]):
        raise errors[-1]
    assert_no_secret(errors, caplog)


def test_reader_may_read_but_not_write_and_is_told_so(
    s3_env: S3Env, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    s3_env.put("a.tar", DATA)
    s3_env.use(READER)
    store = open_store(s3_env.url, QUICK)
    assert store.read_range("a.tar", 5, 10) == DATA[5:15]
    assert store.names() == ["a.tar"]
    errors = failures(
        s3_env.url,
        lambda store: put(store, "b.tar"),
        lambda store: put(store, "b.tar", create=True),
        lambda store: put(store, "b.tar", DATA * 63),
        lambda store: store.remove("a.tar"),
    )
    assert len(errors) == 4
    for error in errors:
        assert "no permission" in str(error)
        assert s3_env.url in str(error)
    assert_no_secret(errors, caplog)
    assert s3_env.keys() == ["a.tar"]


def test_publishing_to_a_missing_bucket_says_so(s3_env: S3Env) -> None:
    (error,) = failures(missing_bucket(s3_env), lambda store: put(store, "a.tar"))
    assert "bucket of s3://no-such-bucket-here/data/a.tar not found" in str(error)


@pytest.mark.parametrize("url", ["s3://AKIA:hunter2@bucket/data", "s3://"])
def test_url_with_secrets_or_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(UserError) as caught:
        open_store(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_profile_of_the_configuration_files_is_enough(s3_env: S3Env, tmp_path: Path) -> None:
    s3_env.put("a.tar", DATA)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        s3_env.monkeypatch.delenv(name)
    config = f"[profile mine]\nregion = us-east-1\nendpoint_url = {s3_env.server.endpoint}\n"
    keys = f"[mine]\naws_access_key_id = {READER.access_key}\naws_secret_access_key = {READER.secret_key}\n"
    for variable, text in (("AWS_CONFIG_FILE", config), ("AWS_SHARED_CREDENTIALS_FILE", keys)):
        (tmp_path / variable).write_text(text, "utf-8")
        s3_env.monkeypatch.setenv(variable, str(tmp_path / variable))
    s3_env.monkeypatch.setenv("AWS_PROFILE", "mine")
    assert open_store(s3_env.url).read_range("a.tar", 1, 2) == DATA[1:3]
