"""Actors that die, for the tests of packing on Ray; in a module of their own, which a cluster finds."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pack.publish.ray_engine import Packer


class OneDies(Packer):
    """Whoever draws shard 3 first is killed; a file beside the output keeps the next one alive."""

    def _draw(self, split: str | None, shards: int) -> Iterator[int]:
        died = Path(f"{self._config.out}.died")
        for number in super()._draw(split, shards):
            if number == 3 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield number


class AllDie(Packer):
    """Every actor is killed."""

    def _draw(self, split: str | None, shards: int) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield from super()._draw(split, shards)
