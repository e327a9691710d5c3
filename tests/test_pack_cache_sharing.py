"""The cache of blocks under several writers: exact or absent, bounded, whole after any kill."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

import pytest
from cache_blocks import (
    BLOCK,
    age,
    block,
    counted,
    fill,
    held,
    key,
    locked,
    partials,
    root,
    stored,
    warnings,
)
from conftest import python
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from patience import PATIENCE_S

from pack.dataset import cache as cache_module
from pack.dataset import cache_folder as module
from pack.dataset.cache import BlockCache, block_key


def test_a_lock_that_another_holds_for_long_costs_one_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a job suspended at the wrong moment does."""
    monkeypatch.setattr(module, "_WAIT_S", 0.2)
    monkeypatch.setattr(module, "_OPEN_WAIT_S", 0.2)
    monkeypatch.setattr(cache_module, "_REST_S", 1e6)
    cache, lock, waits = BlockCache(str(tmp_path), 1 << 20), module._lock, []

    def counted_lock(descriptor: int, wait_s: float) -> None:
        waits.append(wait_s)
        lock(descriptor, wait_s)

    fill(cache, range(3))
    with locked(tmp_path), monkeypatch.context() as patch:
        patch.setattr(module, "_lock", counted_lock)
        fill(cache, range(3, 40))
        assert waits == [0.2]
        cache.drop(key(2))
        assert held(cache, range(40)) == [0, 1]
        assert warnings(caplog) == []
        assert held(BlockCache(str(tmp_path), 1 << 20), range(3)) == [0, 1]
        assert "held its lock" in warnings(caplog)[0]
    monkeypatch.setattr(cache, "_rest_until", 0.0)
    fill(cache, range(3, 5))
    assert held(cache, range(5)) == [0, 1, 3, 4]


def test_a_lock_lost_in_the_middle_of_a_put_leaves_no_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.1)
    cache = BlockCache(str(tmp_path), 1 << 20)
    write, holder = module._write, open(root(tmp_path) / "usage", "rb+")

    def late(descriptor: int, data: bytes) -> None:
        write(descriptor, data)
        fcntl.flock(holder, fcntl.LOCK_EX)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", late)
        cache.put(key(0), block(0))
    holder.close()
    assert partials(tmp_path) == []
    assert (counted(tmp_path), stored(tmp_path)) == (BLOCK, 0)  # too high until somebody opens
    BlockCache(str(tmp_path), 1 << 20)
    assert counted(tmp_path) == 0


def test_two_writers_of_a_block_keep_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, other = BlockCache(str(tmp_path), 1 << 20), BlockCache(str(tmp_path), 1 << 20)
    write = module._write

    def raced(descriptor: int, data: bytes) -> None:
        monkeypatch.setattr(module, "_write", write)
        write(descriptor, data)
        other.put(key(0), block(0))
        assert counted(tmp_path) == 2 * BLOCK

    monkeypatch.setattr(module, "_write", raced)
    cache.put(key(0), block(0))
    assert cache.get(key(0)) == block(0)
    assert partials(tmp_path) == []
    assert counted(tmp_path) == stored(tmp_path) == BLOCK


def test_what_is_being_written_counts_and_survives_another_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, write = BlockCache(str(tmp_path), 4 * BLOCK), module._write

    def slow(descriptor: int, data: bytes) -> None:
        monkeypatch.setattr(module, "_write", write)
        other = BlockCache(str(tmp_path), 4 * BLOCK)
        assert counted(tmp_path) == stored(tmp_path) == 3 * BLOCK
        fill(other, range(1, 4))
        assert held(other, range(4)) == [1]
        write(descriptor, data)

    monkeypatch.setattr(module, "_write", slow)
    cache.put(key(0), block(0, 3 * BLOCK))
    assert cache.get(key(0)) == block(0, 3 * BLOCK)


def test_an_interrupted_put_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.put(key(0), block(0))
    assert partials(tmp_path) == []
    assert counted(tmp_path) == 0


def test_threads_share_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_S", PATIENCE_S)
    cache, wrong = BlockCache(str(tmp_path), 40 * BLOCK), []

    def work(seed: int) -> None:
        for number in random.Random(seed).choices(range(60), k=200):
            data = cache.get(key(number))
            if data is None:
                cache.put(key(number), block(number))
            elif data != block(number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert counted(tmp_path) == stored(tmp_path) == 40 * BLOCK
    assert partials(tmp_path) == []


KILLED_AT_EACH_CALL = """
import os, signal, sys
from pack.dataset.cache import BlockCache, block_key

folder, limit = sys.argv[1], 4 * 4096
keys = [block_key("a" * 64, number, 1) for number in range(6)]
data = [bytes([number]) * 4000 for number in range(6)]

def job(calls):
    left = [calls]
    def counting(call):
        def counted(*arguments, **options):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*arguments, **options)
        return counted
    cache = BlockCache(folder, limit)
    for name in ("open", "pwrite", "truncate", "write", "rename", "unlink", "close", "stat"):
        setattr(os, name, counting(getattr(os, name)))
    for number in (4, 5, 4):  # each makes room
        cache.put(keys[number], data[number])
    cache.drop(keys[5])
    os._exit(0)

calls, status = -1, 1
while status:
    calls += 1
    first = BlockCache(folder, limit)
    for number in range(6):
        first.drop(keys[number])
    for number in range(4):
        first.put(keys[number], data[number])
    for parent, _, names in os.walk(folder):
        for name in names:
            os.utime(f"{parent}/{name}", (1, 1))
    pid = os.fork()
    if pid == 0:
        job(calls)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    def disk():
        files = [f"{parent}/{name}" for parent, _, names in os.walk(folder) for name in names]
        files = [file for file in files if not file.endswith("/usage")]
        return sum(4096 * bool(os.stat(file).st_size) for file in files), files
    def usage():
        return int.from_bytes(open(f"{folder}/pairstream-cache-1/usage", "rb").read(), "little")
    assert disk()[0] <= usage() <= limit + 4096, (calls, disk(), usage())
    assert disk()[0] <= limit, (calls, disk())
    later = BlockCache(folder, limit)
    assert disk()[0] == usage(), (calls, disk(), usage())
    assert not [file for file in disk()[1] if "/writing/" in file], calls
    for key, one in zip(keys, data):
        assert later.get(key) in (None, one), calls
print(calls)
"""


def test_a_kill_at_any_call_leaves_a_whole_cache(tmp_path: Path) -> None:
    result = python(KILLED_AT_EACH_CALL, tmp_path)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 30


WORKER = """
import os, random, sys
from pack.dataset import cache_folder
from pack.dataset.cache import BlockCache, block_key

cache_folder._WAIT_S = 120.0
folder, limit, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
write = os.write
os.write = lambda descriptor, data: write(descriptor, data[:4096])  # more moments to be killed at
draw, cache = random.Random(seed), BlockCache(folder, limit)
while True:
    number = draw.randrange(60)
    expected = random.Random(number).randbytes(1000 * number)
    key = block_key("c" * 64, number, 1)
    found = cache.get(key)
    assert found in (None, expected), number
    if found is None:
        cache.put(key, expected)
        print(flush=True)  # the test kills none that has not put a block
    elif draw.random() < 0.1:
        cache.drop(key)
"""


def test_processes_killed_at_random_leave_exact_blocks_within_the_limit(tmp_path: Path) -> None:
    limit, draw = 150 * BLOCK, random.Random(3)
    BlockCache(str(tmp_path), limit)

    def start(seed: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(limit), str(seed)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=pipe, stderr=pipe)

    workers, seeds = [start(seed) for seed in range(3)], count(3)
    fullest = killed = 0
    try:
        while killed < 20 or fullest <= limit * 0.8:
            number = draw.randrange(3)
            progress = workers[number].stdout
            assert progress
            progress.readline()
            time.sleep(draw.uniform(0, 0.3))  # a moment that neither side knows
            with locked(tmp_path):
                taken = stored(tmp_path)
                assert taken <= counted(tmp_path)
            assert taken <= limit
            fullest = max(fullest, taken)
            workers[number].send_signal(signal.SIGKILL)
            _, text = workers[number].communicate()
            assert workers[number].returncode == -signal.SIGKILL, text.decode()
            killed += 1
            workers[number] = start(next(seeds))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    cache = BlockCache(str(tmp_path), limit)
    assert partials(tmp_path) == []
    assert counted(tmp_path) == stored(tmp_path) <= limit
    for number in range(60):
        expected = random.Random(number).randbytes(1000 * number)
        assert cache.get(block_key("c" * 64, number, 1)) in (None, expected)


class Jobs(RuleBasedStateMachine):
    """Several caches with limits of their own on one folder."""

    @initialize()
    def make(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.caches: list[tuple[BlockCache, int]] = []
        self.highest = 0
        self.open(8)

    @rule(blocks=st.integers(0, 12))
    def open(self, blocks: int) -> None:
        age(self.folder, 1)
        self.caches.append((BlockCache(str(self.folder), blocks * BLOCK), blocks * BLOCK))
        self.highest = max(self.highest, blocks * BLOCK)
        assert counted(self.folder) == stored(self.folder)

    @rule(job=st.integers(0, 99), number=st.integers(0, 15), size=st.integers(0, 3 * BLOCK))
    def put(self, job: int, number: int, size: int) -> None:
        cache, limit = self.caches[job % len(self.caches)]
        there, before = cache.get(key(number)), stored(self.folder)
        cache.put(key(number), block(number, size))
        found = cache.get(key(number))
        if there is not None:
            assert found == there
        elif before + size + BLOCK <= limit:
            assert found == block(number, size)
        else:
            assert found in (None, block(number, size))

    @rule(job=st.integers(0, 99), number=st.integers(0, 15))
    def drop(self, job: int, number: int) -> None:
        self.caches[job % len(self.caches)][0].drop(key(number))
        assert all(cache.get(key(number)) is None for cache, _ in self.caches)

    @invariant()
    def within_limits(self) -> None:
        if hasattr(self, "caches"):
            assert counted(self.folder) == stored(self.folder) <= self.highest

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
