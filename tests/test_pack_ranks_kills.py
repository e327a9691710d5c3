"""SIGKILL at any moment of any rank: what is run again gives the bytes of an undisturbed process."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import photograph, save
from pack_runs import PACK, ended, files, start
from patience import PATIENCE_S
from s3_server import S3Env

from pack.dataset.dataset import open_dataset
from pack.inspect.verify import verify

SLOW = (
    "import time\n"
    "from pack.shard.writer import ShardWriter\n"
    "add = ShardWriter.add\n"
    "def slow(self, pair): time.sleep(.03); add(self, pair)\n"
    "ShardWriter.add = slow\n"
)

Process = subprocess.Popen[str]


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} if out.exists() else set()


def begun_or_over(running: list[Process], out: Path, before: set[str]) -> bool:
    return names(out) != before or all(one.poll() is not None for one in running)


@pytest.mark.parametrize("seed", range(3))
def test_ranks_killed_at_random_moments_and_run_again_give_the_bytes_of_one(
    packed: Path, photographs: Path, tmp_path: Path, seed: int
) -> None:
    draw, out = random.Random(seed), tmp_path / "out"
    ranks = [["--rank", rank, "--world_size", 2] for rank in range(2)]
    for _ in range(2):
        before = names(out)
        running = [start(photographs, out, *rank, script=SLOW + PACK) for rank in ranks]
        wait_until(partial(begun_or_over, running, out, before))
        time.sleep(draw.uniform(0, 0.4))
        for one in draw.sample(running, draw.choice([1, 2])):
            one.kill()
        for one in running:
            one.communicate(timeout=PATIENCE_S)
    draw.shuffle(ranks)
    ends = [ended(start(photographs, out, *rank)) for rank in ranks]
    assert [status for status, _ in ends] == [0, 0], ends
    assert files(out) == files(packed)


TILES, KILLS, SOAK_S = 2000, 10, 900


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_ranks_into_a_bucket_killed_ten_times_give_the_bytes_of_one_undisturbed_process(
    s3_env: S3Env, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos"
    for number in range(TILES // 100):
        save(source / f"{number:02}.jpg", photograph(640, 640, number), quality=90)
    options = ["--autoencoder", "tiny", "--tile", 64, "--threads", 1, "--shard_pairs", 25]
    status, error = ended(start(source, tmp_path / "one", *options), SOAK_S)
    assert status == 0, error

    def shards() -> int:
        return sum(name.endswith(".parquet") for name in s3_env.keys())

    def begin(rank: int) -> Process:
        return start(source, s3_env.url, *options, "--rank", rank, "--world_size", 2)

    draw, moments, running = random.Random(0), [], [begin(0), begin(1)]
    for _ in range(KILLS):
        more = shards() + draw.randrange(9)  # of 80 in all
        wait_until(lambda: shards() >= more)  # noqa: B023
        time.sleep(draw.uniform(0, 2))
        rank = draw.choice([rank for rank in range(2) if running[rank].poll() is None])
        running[rank].kill()
        _, error = running[rank].communicate()
        assert running[rank].returncode == -signal.SIGKILL, error
        moments.append(f"rank {rank} at {shards()} shards")
        running[rank] = begin(rank)
    ends = [ended(one, SOAK_S) for one in running]
    with capsys.disabled():
        sys.stdout.write(f"\nkilled {len(moments)} times: {', '.join(moments)}\n")
    assert [status for status, _ in ends] == [0, 0], ends
    assert {name: s3_env.get(name) for name in s3_env.keys()} == files(tmp_path / "one")
    dataset = open_dataset(s3_env.url)
    assert dataset.manifest.pairs == TILES
    assert list(verify(dataset)) == []
