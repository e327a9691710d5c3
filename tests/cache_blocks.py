"""Blocks by number, and what a cache's folder holds of them, for the tests of the cache."""

import fcntl
import hashlib
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pack.dataset.cache import BlockCache, block_key

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


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
