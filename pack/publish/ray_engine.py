"""Packs by actors on a Ray cluster: ``python -m pack --engine ray``.

Each actor does what a rank does, but draws its shards one by one from a dealer, who deals again what a dead
one had drawn. Whoever draws that skips what was published. So the bytes are those of ranks.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pack.base.config import PackConfig
from recon.base.cpus import available_cpus
from recon.base.errors import UserError

_LOG = logging.getLogger(__name__)
_DEATHS = 10  # of actors, after which it is no accident


class Dealer:
    """Deals the numbers of all shards, each to one actor."""

    def __init__(self) -> None:
        self._left: dict[str | None, deque[int]] = {}
        self._drawn: dict[int, list[tuple[str | None, int]]] = {}  # by actor

    def draw(self, actor: int, split: str | None, shards: int) -> int | None:
        """The next number of a split with so many shards; None if all are dealt."""
        left = self._left.setdefault(split, deque(range(shards)))
        if not left:
            return None
        self._drawn.setdefault(actor, []).append((split, left[0]))
        return left.popleft()

    def take_back(self, actor: int) -> None:
        """Deals again what a dead actor had drawn, published or not."""
        for split, number in self._drawn.pop(actor, []):
            self._left[split].append(number)

    def has_more(self) -> bool:
        """Whether numbers are left to be dealt, of splits that were begun."""
        return any(self._left.values())


class Packer:
    """An actor that packs what it draws; `dealer` is a handle of the `Dealer`."""

    def __init__(self, number: int, config: PackConfig, dealer: Any) -> None:
        logging.basicConfig(level=logging.INFO, format=f"actor {number}: %(message)s")
        self._number, self._config, self._dealer = number, config, dealer

    def pack(self) -> tuple[bool, str]:
        """Packs until nothing is left to draw; whether the dataset is complete, and the user's mistake."""
        from pack.publish.packing import pack

        try:
            return pack(self._config, self._draw), ""
        except UserError as error:  # as a text: Ray would wrap it, and print a traceback
            return False, str(error)

    def _draw(self, split: str | None, shards: int) -> Iterator[int]:
        import ray

        while (number := ray.get(self._dealer.draw.remote(self._number, split, shards))) is not None:
            yield number


def pack_by_actors(config: PackConfig) -> None:
    """Packs a source by actors, until the dataset is complete.

    Raises:
        UserError: Ray is missing or has no GPU, the source can't be packed, or actors die again and again.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("engine=ray needs Ray: pip install -e '.[ray]'") from error
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}, "logging_level": "ERROR"}
    if not os.environ.get("RAY_ADDRESS"):  # a cluster of this machine, with room for all actors
        cpus = max(config.engine_workers or 1, available_cpus())
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    ray.init(**options)
    try:
        _Run(ray, config).finish()
    finally:
        ray.shutdown()


class _Run:
    def __init__(self, ray: Any, config: PackConfig) -> None:
        self._ray, self._config = ray, config
        gpus = int(ray.cluster_resources().get("GPU", 0))
        self._wanted = config.engine_workers or gpus
        if not self._wanted:
            raise UserError("engine=ray found no GPU; pass --engine_workers for actors on CPUs")
        on_gpu = gpus > 0 if config.device == "auto" else config.device != "cpu"
        self._needs = {"num_cpus": 1, "num_gpus": int(on_gpu)}
        self._dealer = ray.remote(num_cpus=0)(Dealer).remote()
        self._made = 0
        self._working: dict[Any, tuple[int, Any]] = {}  # by what they will return: number and handle
        self._idle: list[tuple[int, Any]] = []

    def finish(self) -> None:
        _LOG.info("packing by %d actors", self._wanted)
        for _ in range(self._wanted):
            self._start()
        while self._working:
            (done, *_), _ = self._ray.wait(list(self._working))
            if self._is_complete(done):
                _LOG.info("%s is complete", self._config.out)
                return
        raise UserError(f"{self._config.out} lacks shards although all were dealt; give the command again")

    def _is_complete(self, done: Any) -> bool:
        """Whether an actor that has ended, or died, found the dataset complete."""
        number, actor = self._working.pop(done)
        try:
            complete, mistake = self._ray.get(done)
        except self._ray.exceptions.RayActorError as error:
            self._replace(number, error)
            return False
        if mistake:
            raise UserError(mistake)
        self._idle.append((number, actor))
        if self._ray.get(self._dealer.has_more.remote()):
            self._wake()
        return bool(complete)

    def _start(self) -> None:
        number, self._made = self._made, self._made + 1
        actor = self._ray.remote(**self._needs)(Packer).remote(number, self._config, self._dealer)
        self._working[actor.pack.remote()] = number, actor

    def _replace(self, number: int, error: Exception) -> None:
        """Deals a dead actor's shards again: to idle actors, to those at work, and to a new one."""
        if self._made - self._wanted >= _DEATHS:
            raise UserError(f"{_DEATHS} actors died, and now one more: {error}; see Ray's logs, then go on")
        _LOG.warning("actor %d died, its shards go to others", number)
        self._ray.get(self._dealer.take_back.remote(number))
        self._wake()
        self._start()  # it waits until the cluster has room for it

    def _wake(self) -> None:
        """Lets idle actors draw what was taken back."""
        self._working |= {actor.pack.remote(): (number, actor) for number, actor in self._idle}
        self._idle = []
