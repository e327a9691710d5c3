"""The cache of blocks: exact or absent, bounded, whole after any kill, quiet on a full disk."""

import errno
import fcntl
import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import python
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pack import cache as module
from pack.cache import BlockCache, block_key
from recon.errors import UserError

BLOCK = 4096  # what a small file takes of the disk, and of the limit


def key(number: int, shard: str = "ab") -> str:
    return block_key(hashlib.sha256(shard.encode()).hexdigest(), number, 16)


def block(number: int, size: int = BLOCK) -> bytes:
    return random.Random(number).randbytes(size)


def root(folder: Path) -> Path:
    return folder / "pairstream-cache-1"


def partials(folder: Path) -> list[Path]:
    return list((root(folder) / "writing").iterdir())


def stored(folder: Path) -> int:
    """Bytes on disk, blocks being written included."""
    files = [file for file in root(folder).rglob("*") if file.is_file() and file.name != "usage"]
    return sum(-(-file.stat().st_size // BLOCK) * BLOCK for file in files)


def counted(folder: Path) -> int:
    return int.from_bytes((root(folder) / "usage").read_bytes(), "little")


def age(folder: Path, seconds: int = 1000) -> None:
    """Lets all blocks be used longer ago than they were."""
    for file in root(folder).glob("??/*"):
        times = file.stat().st_mtime - seconds
        os.utime(file, (times, times))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of all changes, as another process would."""
    with open(root(folder) / "usage", "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fill(cache: BlockCache, numbers: range, shard: str = "ab") -> None:
    for number in numbers:
        cache.put(key(number, shard), block(number))


def held(cache: BlockCache, numbers: range, shard: str = "ab") -> list[int]:
    return [number for number in numbers if cache.get(key(number, shard)) is not None]


def test_a_block_comes_back_as_it_was_put(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)
    for size in (0, 1, BLOCK, 70_000):
        assert cache.get(key(size)) is None
        cache.put(key(size), block(size, size))
        assert cache.get(key(size)) == block(size, size)
        assert BlockCache(str(tmp_path), 1 << 20).get(key(size)) == block(size, size)
    assert counted(tmp_path) == stored(tmp_path)


def test_keys_tell_shards_and_runs_of_pairs_apart() -> None:
    names = {block_key(sha * 64, first, count) for sha in "0f" for first in (0, 1, 11) for count in (1, 11)}
    assert len(names) == 12


def test_a_block_that_is_there_stays(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)
    cache.put(key(0), b"first")
    cache.put(key(0), b"again")
    assert cache.get(key(0)) == b"first"
    assert counted(tmp_path) == BLOCK


def test_a_dropped_block_is_gone_and_may_be_put_anew(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)
    cache.put(key(0), b"wrong")
    cache.drop(key(0))
    cache.drop(key(0))
    assert cache.get(key(0)) is None
    assert counted(tmp_path) == 0
    cache.put(key(0), b"right")
    assert cache.get(key(0)) == b"right"


def test_a_full_cache_keeps_what_this_run_used(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path), 4 * BLOCK)
    fill(cache, range(6))
    assert held(cache, range(6)) == [0, 1, 2, 3]
    cache.drop(key(2))
    fill(cache, range(4, 6))
    assert held(cache, range(6)) == [0, 1, 3, 4]


def test_room_is_made_by_what_was_used_longest_before_opening(tmp_path: Path) -> None:
    fill(BlockCache(str(tmp_path), 4 * BLOCK), range(4))
    for number in range(4):
        path = next(root(tmp_path).glob(f"??/{key(number)}"))
        os.utime(path, (1000 - number, 1000 - number))  # 3 was used longest ago
    cache = BlockCache(str(tmp_path), 4 * BLOCK)
    assert held(cache, range(2, 3)) == [2]  # a hit: used since opening
    fill(cache, range(4, 6))
    assert held(cache, range(1, 6)) == [2, 4, 5]
    fill(cache, range(6, 9))
    assert held(cache, range(9)) == [2, 4, 5, 6]


def test_what_another_process_used_meanwhile_is_not_evicted(tmp_path: Path) -> None:
    fill(BlockCache(str(tmp_path), 4 * BLOCK), range(4))
    age(tmp_path)
    cache, other = BlockCache(str(tmp_path), 4 * BLOCK), BlockCache(str(tmp_path), 4 * BLOCK)
    fill(cache, range(4, 5))  # has made its list of what may go
    left = held(other, range(4))
    assert len(left) == 3
    fill(cache, range(5, 9))
    assert held(cache, range(9)) == [*left, 4]


def test_blocks_of_other_shards_go_first_and_own_ones_only_now_and_then(tmp_path: Path) -> None:
    old = BlockCache(str(tmp_path), 20 * BLOCK)
    fill(old, range(16), "own")
    age(tmp_path)
    fill(old, range(4), "other")
    age(tmp_path)
    cache = BlockCache(str(tmp_path), 20 * BLOCK, [key(0, "own")[:64]])
    fill(cache, range(100, 104), "own")
    assert held(BlockCache(str(tmp_path), 0), range(4), "other") == []
    fill(cache, range(200, 216), "own")
    left = [file.name for file in root(tmp_path).glob("??/*")]
    assert sum(key(number, "own") in left for number in range(16)) == 16 - 2
    assert sum(key(number, "own") in left for number in range(200, 216)) == 2


def test_a_block_beyond_the_limit_evicts_nothing(tmp_path: Path) -> None:
    fill(BlockCache(str(tmp_path), 4 * BLOCK), range(4))
    age(tmp_path)
    cache = BlockCache(str(tmp_path), 4 * BLOCK)
    cache.put(key(9), block(9, 5 * BLOCK))
    assert held(cache, range(10)) == [0, 1, 2, 3]


def test_a_lowered_limit_is_reached_in_short_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_EVICTED", 8)
    fill(BlockCache(str(tmp_path), 64 * BLOCK), range(40))
    age(tmp_path)
    cache = BlockCache(str(tmp_path), 10 * BLOCK)
    sizes = []
    for number in range(100, 106):
        cache.put(key(number), block(number))
        sizes.append(stored(tmp_path) // BLOCK)
    assert sizes == [32, 24, 16, 10, 10, 10]  # at last room for the block too


def test_jobs_with_other_limits_share_a_folder(tmp_path: Path) -> None:
    small, large = BlockCache(str(tmp_path), 2 * BLOCK), BlockCache(str(tmp_path), 6 * BLOCK)
    fill(large, range(4))
    fill(small, range(4, 6))
    assert held(small, range(6)) == [0, 1, 2, 3]
    fill(large, range(4, 9))
    assert held(small, range(9)) == [0, 1, 2, 3, 4, 5]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    strangers = [tmp_path / "a", root(tmp_path) / "b", root(tmp_path) / "writing/c", root(tmp_path) / "00/d"]
    BlockCache(str(tmp_path), 0)
    for path in strangers:
        path.write_bytes(b"x" * 9000)
        os.utime(path, (0, 0))
    cache = BlockCache(str(tmp_path), BLOCK)
    assert counted(tmp_path) == 0
    fill(cache, range(3))
    assert held(cache, range(3)) == [0]
    assert all(path.exists() for path in strangers)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for folder in ("file", "file/below"):
        with pytest.raises(UserError, match=rf"can't use .*{folder} as cache_dir: .*; name a local folder"):
            BlockCache(str(tmp_path / folder), 1)


@pytest.mark.parametrize("cause", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_without_permission_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: int
) -> None:
    monkeypatch.setattr(Path, "mkdir", failing(cause))
    with pytest.raises(UserError, match=f"can't use .* as cache_dir: {os.strerror(cause)}; name a local"):
        BlockCache(str(tmp_path), 1)


def failing(cause: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(cause, os.strerror(cause))

    return fail


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_too_full_to_open_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cause: int
) -> None:
    fill(BlockCache(str(tmp_path), 1 << 20), range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing(cause))
        cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(4))
    assert held(cache, range(4)) == [0, 1]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "pread", "pwrite", "truncate", "write", "rename", "statvfs"])
def test_a_failing_disk_stops_the_cache_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, cause: int
) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(cause))
        fill(cache, range(2, 4))
        cache.drop(key(9))
    fill(cache, range(4, 6))
    assert held(cache, range(6)) == [0, 1]
    assert len(warnings(caplog)) == 1
    assert os.strerror(cause) in warnings(caplog)[0]
    assert partials(tmp_path) == []
    assert counted(tmp_path) >= stored(tmp_path)
    later = BlockCache(str(tmp_path), 1 << 20)
    fill(later, range(2, 6))
    assert held(later, range(6)) == list(range(6))


def test_a_block_that_cannot_be_read_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", failing(errno.EIO))
        assert held(cache, range(2)) == []
    assert held(cache, range(2)) == [0, 1]
    assert len(warnings(caplog)) == 1


def test_a_folder_removed_under_a_run_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(2))
    shutil.rmtree(root(tmp_path))
    fill(cache, range(4))
    cache.drop(key(0))
    assert held(cache, range(4)) == []
    assert len(warnings(caplog)) == 1


def test_the_disk_is_never_filled_to_the_brim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SPARE", 1.0)
    cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(2))
    assert held(cache, range(2)) == []
    assert "the disk is full" in warnings(caplog)[0]


def test_a_really_full_disk_goes_on_without(tmp_path: Path) -> None:
    """In a file system of 1 MiB; skipped where mounting one is not permitted."""
    script = (
        "import logging, sys\n"
        "from pack import cache\n"
        "logging.basicConfig()\n"
        "cache._SPARE = -1.0\n"
        "blocks = cache.BlockCache(sys.argv[1], 1 << 30)\n"
        "keys = [cache.block_key('a' * 64, number, 1) for number in range(40)]\n"
        "for key in keys: blocks.put(key, b'x' * 65_536)\n"
        "found = [blocks.get(key) for key in keys]\n"
        "print(sum(one == b'x' * 65_536 for one in found), sum(one is None for one in found))\n"
    )
    inside = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 99; exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    result = subprocess.run(
        [*command, str(tmp_path), sys.executable, script],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    if result.returncode and "Error" not in result.stderr:
        pytest.skip(f"no mount: {result.stderr}")
    held, absent = map(int, result.stdout.split())
    assert held + absent == 40
    assert 8 <= held < 16
    assert result.stderr.count("No space left on device") == 1


def test_a_lock_that_another_holds_for_long_costs_one_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a job suspended at the wrong moment does."""
    monkeypatch.setattr(module, "_WAIT_S", 0.2)
    monkeypatch.setattr(module, "_OPEN_WAIT_S", 0.2)
    cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(3))
    with locked(tmp_path):
        start = time.monotonic()
        fill(cache, range(3, 40))
        assert time.monotonic() - start < 2
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


def test_threads_share_a_cache(tmp_path: Path) -> None:
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
from pack.cache import BlockCache, block_key

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
import hashlib, os, random, sys
from pack.cache import BlockCache, block_key

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
    elif draw.random() < 0.1:
        cache.drop(key)
"""


def test_processes_killed_at_random_leave_exact_blocks_within_the_limit(tmp_path: Path) -> None:
    limit, draw = 150 * BLOCK, random.Random(3)
    BlockCache(str(tmp_path), limit)

    def start(seed: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(limit), str(seed)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE)

    workers, seeds = [start(seed) for seed in range(3)], iter(range(3, 100))
    fullest = killed = 0
    end = time.monotonic() + 60
    try:
        while killed < 20 and time.monotonic() < end:
            time.sleep(draw.uniform(0, 0.3))
            with locked(tmp_path):
                taken = stored(tmp_path)
                assert taken <= counted(tmp_path)
            assert taken <= limit
            fullest = max(fullest, taken)
            number = draw.randrange(3)
            workers[number].send_signal(signal.SIGKILL)
            _, text = workers[number].communicate()
            assert workers[number].returncode == -signal.SIGKILL, text.decode()
            killed += 1
            workers[number] = start(next(seeds))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert killed == 20
    assert fullest > limit * 0.8
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
