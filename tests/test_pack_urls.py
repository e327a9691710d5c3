"""URLs choose their store, import no more than it needs, and never show a secret."""

import os
from pathlib import Path

import pytest
from conftest import python

from pack.storage import FsspecStore, LocalStore, open_store
from pack.storage.trouble import refuse_secrets, without_secrets
from recon.base.errors import UserError


def test_the_scheme_chooses_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store(str(tmp_path)), LocalStore)
    assert isinstance(open_store(f"file://{tmp_path}"), LocalStore)
    assert isinstance(open_store("memory://x"), FsspecStore)


def test_unknown_scheme_is_an_error_that_names_the_url() -> None:
    with pytest.raises(UserError, match="can't open nosuch://bucket/data"):
        open_store("nosuch://bucket/data")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("http://me:geheim@host:80/a", "http://host:80/a"),
        ("/b?X-Amz-Signature=geheim&partNumber=3", "/b?X-Amz-Signature=...&partNumber=3"),
        ("?sv=2&sig=geheim", "?sv=2&sig=..."),
        ("X-Amz-Security-Token=geheim", "X-Amz-Security-Token=..."),
        ("aws_secret_access_key=geheim", "aws_secret_access_key=..."),
        ("{'Authorization': 'AWS4-HMAC Credential=geheim'}", "{'Authorization': ..."),
        ("https://token@host/a", "https://host/a"),
        ("sftp://me:gehe@im@host/a", "sftp://host/a"),
        ("sftp://me@host:22/a is whole", "sftp://me@host:22/a is whole"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("s3://bucket/key@2 is whole", "s3://bucket/key@2 is whole"),
    ],
)
def test_secrets_are_cut_out_of_texts(text: str, plain: str) -> None:
    assert without_secrets(text) == plain


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:geheim@host/data",
        "ftp://:geheim@host/data",
        "https://geheim@host/data",
        "s3://key:geheim@bucket/data",
        "https://host/data?X-Amz-Signature=geheim",
    ],
)
def test_urls_with_secrets_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(UserError, match="a URL with a password or signature") as error:
        open_store(url)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("url", ["abfs://box@account.dfs.core.windows.net/a", "sftp://me@host:22/a"])
def test_user_or_container_in_a_url_is_no_secret(url: str) -> None:
    refuse_secrets(url)


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("https://host/data", "-e '.[http]'"),
        ("http://host/data", "-e '.[http]'"),
        ("gs://bucket/data", "gcsfs"),
        ("abfs://box@account.dfs.core.windows.net/data", "adlfs"),
        ("sftp://me@host/data", "paramiko"),
    ],
)
def test_missing_package_of_a_filesystem_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("No module named 'something'")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UserError) as told:
        open_store(url)
    assert str(told.value) == f"{url} needs a package that is not installed: pip install {package}"


@pytest.mark.parametrize("url", ["s3://", "s3:///"])
def test_bucket_url_without_a_bucket_is_an_error(url: str) -> None:
    with pytest.raises(UserError, match=f"expected s3://BUCKET/PREFIX, found {url}$"):
        open_store(url)


def test_no_credentials_is_an_error_that_names_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match="no credentials for s3://bucket/data: set AWS_ACCESS_KEY_ID and"):
        open_store("s3://bucket/data")
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(UserError, match="AWS_PROFILE names a profile that"):
        open_store("s3://bucket/data")


def test_boto3_and_fsspec_are_imported_only_for_urls_that_need_them(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pack.storage import Retry, Store, open_store\n"
        "open_store(sys.argv[1]).names()\n"
        "found = [name for name in ('boto3', 'botocore', 'urllib3', 'fsspec') if name in sys.modules]\n"
        "assert not found, found\n"
        "from pack.storage import S3Store\n"
        "assert 'boto3' in sys.modules\n"
    )
    result = python(script, tmp_path)
    assert result.returncode == 0, result.stderr
