"""Runs of packing by one process or many, for the tests of ranks."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save

from pack.base.config import PackConfig
from pack.publish.packing import pack

ROOT = Path(__file__).parents[1]
PACK = "from pack.command import main\nmain()\n"
"""The script of a process that packs; what is put before it changes the process."""


def identity(options: Mapping[str, Any]) -> dict[str, str]:
    """The option of the null control, where the reconstructions are not given."""
    given = options.get("reconstructions") or options.get("layout") == "tree"
    return {} if given else {"autoencoder": "identity"}


def config(source: Path, out: Path | str, **options: Any) -> PackConfig:
    """As the fixture `packed` was packed, with other options."""
    given = identity(options) | {"threads": 2, "shard_pairs": 4} | options
    return PackConfig(source=str(source), out=str(out), **given)


def pack_rank(source: Path, out: Path | str, rank: int, world: int, **options: Any) -> None:
    """One rank's part, in this process."""
    pack(config(source, out, rank=rank, world_size=world, **options))


def start(
    source: Path,
    out: Path | str,
    *options: object,
    script: str = PACK,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """A process that packs as `config` does; `options` are appended to its command line."""
    given = ["--autoencoder", "identity", "--threads", 2, "--shard_pairs", 4]
    line = [sys.executable, "-c", script, "--source", source, "--out", out, *given, *options]
    return subprocess.Popen(
        [*map(str, line)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_spoilt(source: Path) -> Path:
    """Eight images of which 2 to 5 are unreadable: at two pairs a shard, two of four shards are empty."""
    for number in range(8):
        save(source / f"{number}.png", photograph(8, 8, number))
    for number in (2, 3, 4, 5):
        (source / f"{number}.png").write_bytes(b"")
    return source


def ended(process: "subprocess.Popen[str]", within_s: float = 240) -> tuple[int, str]:
    """Status and standard error, when it has ended."""
    _, error = process.communicate(timeout=within_s)
    return process.returncode, error


def files(root: Path) -> dict[str, bytes]:
    """Every file below `root`, hidden ones too."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


class Interruption:
    """Stands in for a method and raises KeyboardInterrupt in place of its call number `at`."""

    def __init__(self, method: Any, at: int) -> None:
        self.method, self.left = method, at

    def __get__(self, instance: object, _: type) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return self.method(instance, *arguments, **options)

        return call


def interrupted(run: PackConfig, owner: type, method: str, at: int) -> bool:
    """Whether packing was stopped in the call number `at` of a method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, Interruption(getattr(owner, method), at))
        try:
            pack(run)
        except KeyboardInterrupt:
            return True
    return False
