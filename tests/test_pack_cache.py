"""The cache of blocks: exact or absent, bounded, quiet on a full or failing disk."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cache_blocks import BLOCK, age, block, counted, fill, held, key, partials, root, stored, warnings

from pack.dataset import cache as module
from pack.dataset import cache_folder
from pack.dataset.cache import BlockCache, block_key
from recon.base.errors import UserError


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
    monkeypatch.setattr(cache_folder, "_SPARE", 1.0)
    cache = BlockCache(str(tmp_path), 1 << 20)
    fill(cache, range(2))
    assert held(cache, range(2)) == []
    assert "the disk is full" in warnings(caplog)[0]


def test_a_really_full_disk_goes_on_without(tmp_path: Path) -> None:
    """In a file system of 1 MiB; skipped where mounting one is not permitted."""
    script = (
        "import logging, sys\n"
        "from pack.dataset import cache, cache_folder\n"
        "logging.basicConfig()\n"
        "cache_folder._SPARE = -1.0\n"
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
