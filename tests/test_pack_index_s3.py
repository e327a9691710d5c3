"""Tars in a bucket are adopted, verified and loaded as those on disk."""

import logging
from pathlib import Path

import pytest
from conftest import run
from fault_plan import Fault
from fault_proxy import FaultProxy
from s3_server import READER, S3Env, S3Server, upload
from stranger_tars import files, image, pair, write_samples

from pack.adopt import command as index
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect import verify
from recon.base.errors import UserError
from train.loader.loader import PairLoader


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    for number in range(3):
        write_samples(tmp_path / f"same/{number}.tar", [pair(10 * number + n) for n in range(5)])
    return tmp_path / "same"


def test_bucket_gets_the_bytes_that_a_folder_gets(
    s3: S3Server,
    s3_env: S3Env,
    tars: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload(s3, tars, s3_env.url)
    assert run(monkeypatch, index.main, s3_env.url + "/", "--name", "same") == 0
    adopt(IndexConfig(url=[str(tars)]))
    assert {name: s3_env.get(name) for name in s3_env.keys()} == files(tars)
    assert run(monkeypatch, verify.main, s3_env.url) == 0
    assert "15 pairs in 3 shards: every byte agrees" in capsys.readouterr().out
    with caplog.at_level(logging.INFO):
        assert run(monkeypatch, index.main, f"{s3_env.url}/{{0..2}}.tar", "--name", "same") == 0
    assert "nothing to do" in caplog.text


def test_loader_reads_each_pair_of_a_bucket_once(s3: S3Server, s3_env: S3Env, tars: Path) -> None:
    adopt(IndexConfig(url=[upload(s3, tars, s3_env.url)]))
    numbers = [10 * tar + number for tar in range(3) for number in range(5)]
    assert [one.real for one in iterate_pairs(s3_env.url)] == [image(number) for number in numbers]
    loader = PairLoader(s3_env.url, batch_size=4, lanes=2, augment=None, centre_crop=8, workers=0)
    keys = [key for batch in loader for key in batch.keys]
    assert sorted(keys) == [f"k{number:04}" for number in numbers]


def test_verify_finds_a_flipped_byte_in_the_bucket(s3: S3Server, s3_env: S3Env, tars: Path) -> None:
    adopt(IndexConfig(url=[upload(s3, tars, s3_env.url)]))
    data = bytearray(s3_env.get("1.tar"))
    data[open_dataset(s3_env.url).index(1).starts[2]] ^= 1
    s3_env.put("1.tar", bytes(data))
    found = list(verify.verify(open_dataset(s3_env.url)))
    assert [line for line in found if "CRC-32 differs" in line] == [
        "1.tar: k0012.fake.png: CRC-32 differs from the index"
    ]


def test_cut_tar_in_a_bucket_is_named(s3: S3Server, s3_env: S3Env, tars: Path) -> None:
    upload(s3, tars, s3_env.url)
    s3_env.put("1.tar", s3_env.get("1.tar")[:5000])
    with pytest.raises(UserError, match=rf"{s3_env.url}/1\.tar was cut: member .* the tar ends at 5000"):
        adopt(IndexConfig(url=[s3_env.url]))
    assert "dataset.json" not in s3_env.keys()


def test_faults_of_a_bucket_change_no_byte(
    s3: S3Server, s3_env: S3Env, proxy: FaultProxy, tars: Path
) -> None:
    upload(s3, tars, s3_env.url)
    s3_env.use(endpoint=proxy.endpoint)
    proxy.plan(
        Fault(kind="status", status=503, key=".tar", times=2),
        Fault(kind="status", status=500, key=".parquet", method="PUT", times=1),
    )
    adopt(IndexConfig(url=[s3_env.url], name="same"))
    adopt(IndexConfig(url=[str(tars)]))
    assert {name: s3_env.get(name) for name in s3_env.keys()} == files(tars)


def test_bucket_that_may_not_be_written_is_told(s3: S3Server, s3_env: S3Env, tars: Path) -> None:
    upload(s3, tars, s3_env.url)
    s3_env.use(READER)
    with pytest.raises(UserError, match=r"no permission .*0\.hints"):
        adopt(IndexConfig(url=[s3_env.url]))
    assert s3_env.keys() == sorted(path.name for path in tars.glob("*.tar"))
