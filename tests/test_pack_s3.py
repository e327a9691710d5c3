"""Datasets in a bucket of a real S3 server: publishing, reading, crashes on either side."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Finished
from fault_proxy import Fault, FaultProxy
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_objects import DATA, QUICK, SIZE, put
from s3_server import ADMIN, BUCKET, S3Env, S3Server, environment, upload

from pack.base.config import PackConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect import info, verify
from pack.publish.packing import pack
from pack.storage import Retry, S3Store, Store, open_store
from pack.storage.s3_client import connect
from recon.base.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def client(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """That of all tests' stores but those that open their own: it takes .2 s to open."""
    with environment(s3, tmp_path_factory.mktemp("aws")):
        return connect(f"s3://{BUCKET}", QUICK)


@pytest.fixture
def store(s3_env: S3Env, client: Any) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pack.storage.s3.connect", lambda *_: client)
        return open_store(s3_env.url, QUICK)


def put_and_raise(store: Store, failure: type[BaseException]) -> None:
    with store.publish("a.tar") as file:
        file.write(DATA)
        raise failure


def command(*arguments: object) -> Finished:
    """Runs ``python -m`` with the process's environment."""
    line = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(line, check=False, capture_output=True, text=True, cwd=ROOT)


# Objects


def test_scheme_chooses_the_store_and_a_prefix_may_end_in_a_slash_or_be_missing(s3_env: S3Env) -> None:
    put(open_store(f"{s3_env.url}/"), "a.tar", b"a")
    assert isinstance(open_store(s3_env.url), S3Store)
    assert open_store(s3_env.url).read("a.tar") == b"a"
    assert open_store(f"s3://{BUCKET}").read("ready") == b"ready"


def test_published_object_is_there_whole_until_it_is_removed(store: Store) -> None:
    assert not store.exists("a.tar")
    put(store, "a.tar")
    assert store.exists("a.tar")
    assert store.size("a.tar") == SIZE
    assert store.read("a.tar") == DATA
    store.remove("a.tar")
    assert not store.exists("a.tar")
    assert store.names() == []


def test_empty_object_is_one(store: Store) -> None:
    put(store, "empty", b"")
    assert store.exists("empty")
    assert store.size("empty") == 0
    assert store.read("empty") == store.read_range("empty", 0, 0) == b""


def test_large_object_goes_in_parts_and_comes_in_short_requests(store: Store, s3_env: S3Env) -> None:
    data = DATA * 63  # a little more than 18 MiB: two parts, three requests
    put(store, "large.tar", data)
    assert s3_env.get("large.tar") == data
    assert store.read("large.tar") == data
    assert store.read_range("large.tar", 5, len(data) - 9) == data[5:-4]
    assert s3_env.uploads() == []


def test_ranged_reads_are_exact(store: Store) -> None:
    put(store, "a.tar")

    @settings(max_examples=40, deadline=None)
    @given(start=st.integers(0, SIZE), length=st.integers(0, SIZE))
    def check(start: int, length: int) -> None:
        length = min(length, SIZE - start)
        assert store.read_range("a.tar", start, length) == DATA[start : start + length]

    check()
    for start in (0, 1, SIZE - 1, SIZE):
        assert store.read("a.tar", start) == DATA[start:]


@pytest.mark.parametrize(("start", "length", "found"), [(SIZE - 24, 25, 24), (SIZE, 1, 0), (2 * SIZE, 5, 0)])
def test_read_past_the_end_is_an_error_that_tells_expected_found_and_where(
    store: Store, start: int, length: int, found: int
) -> None:
    put(store, "a.tar")
    with pytest.raises(
        UserError, match=rf"a\.tar ends early: expected {length} bytes at {start}, found {found};"
    ):
        store.read_range("a.tar", start, length)


def test_names_are_those_directly_below_and_more_than_an_answer_holds(s3_env: S3Env, store: Store) -> None:
    expected = sorted(f"shard-{number:06}.tar" for number in range(1050))
    others = ["deeper/a.tar", "../dataset/a.tar", "../data"]
    s3_env.put_empty(expected)
    for name in others:
        s3_env.server.admin.put_object(
            Bucket=s3_env.bucket, Key=os.path.normpath(s3_env.key(name)), Body=b"x"
        )
    assert store.names() == expected


def test_names_of_a_prefix_that_is_not_there_are_none(store: Store) -> None:
    assert store.names() == []


def test_names_may_hold_any_character_of_a_url(store: Store) -> None:
    odd = sorted(["a b+c.tar", "ü&=?#%41.tar", "写真.json"])
    for name in odd:
        put(store, name, name.encode())
    assert store.names() == odd
    assert [store.read(name).decode() for name in odd] == odd


# Publishing


def test_publishing_again_replaces_the_object_also_for_the_store_that_read_it(store: Store) -> None:
    put(store, "a.tar")
    assert store.read_range("a.tar", 0, 5) == DATA[:5]
    put(store, "a.tar", b"newer")
    assert store.read_range("a.tar", 0, 5) == b"newer"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_interrupted_publishing_leaves_what_was_there(
    store: Store, s3_env: S3Env, failure: type[BaseException]
) -> None:
    with pytest.raises(failure):
        put_and_raise(store, failure)
    assert s3_env.keys() == []
    put(store, "a.tar", b"old")
    with pytest.raises(failure):
        put_and_raise(store, failure)
    assert store.read("a.tar") == b"old"


def test_object_is_invisible_until_it_is_whole(store: Store) -> None:
    with store.publish("a.tar") as file:
        file.write(DATA)
        file.flush()
        assert not store.exists("a.tar")
    assert store.exists("a.tar")


def test_writer_killed_between_two_parts_leaves_nothing_visible(
    proxy: FaultProxy, s3_env: S3Env, tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "from pack.storage import open_store\n"
        "with open_store(sys.argv[1]).publish('a.tar') as file:\n"
        "    for _ in range(40): file.write(bytes(1 << 20))\n"
    )
    proxy.plan(Fault(kind="stall_head", key="a.tar", method="PUT", query="partNumber=2", times=None))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script, s3_env.url], cwd=ROOT, env=environment) as writer:
        wait_until(lambda: sum(one.status == 200 for one in proxy.requests("a.tar", "PUT")) == 2)
        writer.send_signal(signal.SIGKILL)
    assert s3_env.keys() == []
    proxy.plan()
    store = open_store(s3_env.url)
    assert not store.exists("a.tar")
    put(store, "a.tar")
    assert s3_env.get("a.tar") == DATA


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def test_creating_refuses_other_content_and_accepts_the_same(store: Store, s3_env: S3Env) -> None:
    put(store, "a.tar", create=True)
    put(store, "a.tar", create=True)
    for other in (b"other", DATA[::-1]):
        with pytest.raises(UserError, match=r"a\.tar exists already with other content"):
            put(store, "a.tar", other, create=True)
    assert s3_env.get("a.tar") == DATA


def test_one_of_several_creators_wins_and_the_others_are_told(store: Store, s3_env: S3Env) -> None:
    def create(number: int) -> str:
        try:
            with store.publish("a.tar", create=True) as file:
                file.write(DATA[number:])
                barrier.wait(300)
            return "won"
        except UserError as error:
            return str(error)

    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(create, range(4)))
    assert outcomes.count("won") == 1
    assert sum("exists already with other content" in one for one in outcomes) == 3
    assert s3_env.get("a.tar") == DATA[outcomes.index("won") :]


# A server that crashes


def test_reads_outlast_a_server_that_is_killed_and_comes_back(s3: S3Server, s3_env: S3Env) -> None:
    put(open_store(s3_env.url), "a.tar")
    s3_env.monkeypatch.setattr("pack.storage.retry._LONGEST_PAUSE_S", 0.5)  # to be done soon
    store = open_store(s3_env.url, Retry(deadline_s=60.0, attempts=200))
    over, wrong = threading.Event(), []

    def read(seed: int) -> int:
        spans, count = np.random.default_rng(seed), 0
        while not (over.is_set() and count):  # at least one read, however busy the machine is
            start, length = map(int, spans.integers(0, SIZE // 2, 2))
            if store.read_range("a.tar", start, length) != DATA[start : start + length]:
                wrong.append((start, length))
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(read, seed) for seed in range(4)]
        time.sleep(0.2)
        try:
            s3.kill()
            s3.start()
            time.sleep(0.2)
        finally:
            over.set()
    assert all(one.result() for one in reads)
    assert wrong == []


# Datasets


def packing(photographs: Path, out: str) -> PackConfig:
    return PackConfig(source=str(photographs), out=out, autoencoder="identity", threads=2, shard_pairs=4)


def contents(env: S3Env) -> dict[str, bytes]:
    return {name: env.get(name) for name in env.keys()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packing_verifying_and_showing_work_in_a_bucket(
    s3_env: S3Env, photographs: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--autoencoder", "identity", "--threads", 2, "--shard_pairs", 4]
    made = command("pack", "--source", photographs, "--out", s3_env.url, *options)
    assert made.returncode == 0, made.stderr
    assert contents(s3_env) == files(packed)
    assert ADMIN.secret_key not in made.stdout + made.stderr
    for main, told in ((verify.main, "11 pairs in 3 shards: every byte agrees\n"), (info.main, "11 pairs")):
        s3_env.monkeypatch.setattr(sys, "argv", ["command", s3_env.url])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        assert told in capsys.readouterr().out


def test_pairs_of_a_bucket_are_those_of_the_folder(s3: S3Server, s3_env: S3Env, packed: Path) -> None:
    def pairs(url: str) -> list[object]:
        return [(pair.key, pair.pair_id, pair.members) for pair in iterate_pairs(url, block=3)]

    upload(s3, packed, s3_env.url)
    assert pairs(s3_env.url) == pairs(str(packed))


def test_verify_finds_a_flipped_byte_in_a_bucket(s3: S3Server, s3_env: S3Env, packed: Path) -> None:
    upload(s3, packed, s3_env.url)
    data = bytearray(s3_env.get("shard-000001.tar"))
    data[len(data) // 3] ^= 1
    s3_env.put("shard-000001.tar", bytes(data))
    assert any("shard-000001.tar" in line for line in verify.verify(open_dataset(s3_env.url)))


def test_dataset_is_none_before_its_manifest_and_a_stopped_run_goes_on(
    proxy: FaultProxy, s3_env: S3Env, photographs: Path, packed: Path
) -> None:
    proxy.plan(Fault(kind="status", status=403, key="shard-000001.parquet", method="PUT", times=None))
    with pytest.raises(UserError, match=r"no permission .*shard-000001\.parquet"):
        pack(packing(photographs, s3_env.url))
    with pytest.raises(UserError, match="dataset"):
        open_dataset(s3_env.url)
    proxy.plan()
    pack(packing(photographs, s3_env.url))
    assert contents(s3_env) == files(packed)
    assert proxy.requests("shard-000000.tar", "PUT") == []
    assert len(proxy.requests("shard-000001.tar", "PUT")) == 1
