"""What an upload in parts leaves in the bucket when its process ends before it: nothing that stays."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import save
from fault_proxy import Fault, FaultProxy
from patience import PATIENCE_S
from s3_server import S3Env

from pack.storage import Retry, open_store

PART = 5 << 20  # the least that S3 takes
DATA = np.random.default_rng(1).bytes(PART + 1000)
PACK = (
    "import sys, pack.storage.s3_write\n"
    f"pack.storage.s3_write.PART = {PART}\n"
    "from pack.command import main\n"
    "main()\n"
)


def put(env: S3Env, name: str, data: bytes = DATA) -> None:
    with open_store(env.url, Retry(deadline_s=30, attempts=3)).publish(name) as file:
        file.write(data)


def leave(env: S3Env, name: str) -> None:
    """What SIGKILL leaves: an upload with a part, and nobody who goes on with it."""
    target = {"Bucket": env.bucket, "Key": env.key(name)}
    upload = env.server.admin.create_multipart_upload(**target)["UploadId"]
    env.server.admin.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"part")


def test_publishing_frees_what_killed_uploads_of_that_name_left(
    s3_env: S3Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pack.storage.s3_write.PART", PART)
    for name in ("a.tar", "a.tar", "a.tar2", "b/a.tar"):
        leave(s3_env, name)
    put(s3_env, "a.tar")
    assert s3_env.get("a.tar") == DATA
    assert sorted(s3_env.uploads()) == ["a.tar2", "b/a.tar"]


def test_store_without_a_list_of_uploads_is_published_to_all_the_same(
    proxy: FaultProxy, s3_env: S3Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pack.storage.s3_write.PART", PART)
    proxy.plan(Fault(kind="status", status=501, method="GET", query="uploads", times=None))
    put(s3_env, "a.tar")
    assert s3_env.get("a.tar") == DATA
    assert sum(one.fault is not None for one in proxy.log) == 1


def test_sigterm_amid_an_upload_aborts_it_and_leaves_no_temporary_file(
    proxy: FaultProxy, s3_env: S3Env, tmp_path: Path
) -> None:
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (800, 800, 3), np.uint8)
        save(tmp_path / f"photos/{number}.png", noise)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    s3_env.monkeypatch.setenv("TMPDIR", str(temporary))
    proxy.plan(Fault(kind="stall_head", method="POST", query="uploadId", times=None))
    options = ("--source", tmp_path / "photos", "--out", s3_env.url, "--autoencoder", "identity")
    process = subprocess.Popen(
        [sys.executable, "-c", PACK, *map(str, options)],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        limit = time.monotonic() + PATIENCE_S
        while not any(one.fault is not None for one in proxy.log):  # the parts are there
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < limit, "the upload never came to its end"
            time.sleep(0.05)
        assert s3_env.uploads() == ["shard-000000.tar"]
        process.send_signal(signal.SIGTERM)
        # It waits for its upload all the same; one that is refused again and again ends in seconds.
        proxy.plan(Fault(kind="status", status=503, method="POST", query="uploadId", times=None))
        proxy.refuse()
        proxy.accept()
        _, told = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "Traceback" not in told
    assert s3_env.uploads() == []
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
