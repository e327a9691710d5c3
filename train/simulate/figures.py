"""The figures of a run, counted on its order and computed from the limits that were given."""

import time
import tracemalloc
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from pack.shard.manifest import LISTED, Manifest, read_manifest
from pack.storage import open_store
from recon.base.errors import UserError
from train.loader.messages import SLOTS
from train.order.epoch import EpochOrder, check_world
from train.order.mixture import Source
from train.simulate.command import SimulateConfig
from train.simulate.paper import Traffic, paper_manifest
from train.simulate.reading import Rank, Reading, read_again, read_rank

_INTERPRETER = 150 << 20  # of a loader's worker with its libraries (`train.loader.loader.PairLoader`)
_ENTRY = 1_200  # bytes of a shard's entry in a rank where no table lists them
_LASTING = 20_000  # pairs that a rank reads at least until its requests are those of a long epoch


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a run would ask for; of a rank where nothing else is said."""

    pairs: int
    shards: int
    bytes: int
    steps: int
    masked: int
    """Empty slots of the last step."""
    epoch_s: float
    requests_per_s: float
    index_requests_per_s: float
    bytes_per_s: float
    index_bytes_per_s: float
    hint_requests_per_s: float
    hint_bytes_per_s: float
    memory: dict[str, float]
    """Bytes by what takes them."""
    node_memory: float
    """Bytes of all ranks of a node; they share the manifest's table."""
    first: Traffic
    """Before the first batch of an epoch."""
    first_s: float
    order_s: float
    """CPU time of the order, on this machine."""
    resumed_s: float
    again_bytes: float
    """That a resume in the middle of an epoch reads a second time; mean of the ranks."""
    rank_pairs: tuple[int, int]
    """Fewest and most pairs of a rank in the epoch."""
    rank_runs: tuple[int, int]
    """Fewest and most runs of a rank in the epoch."""
    breaks: str
    """Which limit a growing run meets first, and with how many ranks."""

    def facts(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def simulate(config: SimulateConfig) -> Figures:
    """Counts and computes the figures.

    Raises:
        UserError: the number of ranks does not divide lanes or global batch, or there is no such dataset.
    """
    ranks, batch = config.world_size, config.order.global_batch
    check_world(world_size=ranks, lanes=config.order.lanes, global_batch=batch)
    manifest = _manifest(config)
    started = time.process_time()
    order = _begun(config, manifest)
    order_s = time.process_time() - started
    who = Rank(
        rank=0,
        world_size=ranks,
        batch=batch // ranks,
        read_ahead_bytes=config.read_ahead_mb << 20,
        index_bytes=config.index_bytes,
        hint_bytes=config.hint_bytes,
    )
    held = order.lanes // ranks * order.window * order.block
    begin = read_rank(manifest, order, who, pairs=max(_LASTING, 8 * held))
    middle = order.steps(batch) // 2 * batch
    resumed = read_rank(manifest, order, who, position=middle, pairs=who.batch)
    runs = order.runs_of_lanes().reshape(-1, ranks).sum(axis=0)
    pairs = order.pairs_of_lanes().reshape(-1, ranks).sum(axis=0)
    rates = _rates(config, begin)
    memory = _memory(config, manifest, begin)
    return Figures(
        pairs=manifest.pairs,
        shards=len(manifest.shards),
        bytes=manifest.bytes,
        steps=order.steps(batch),
        masked=-order.pairs % batch,
        epoch_s=order.steps(batch) * batch / ranks / config.pairs_per_s,
        **rates,
        memory=memory,
        node_memory=_node_memory(config, manifest, memory),
        first=begin.first,
        first_s=_seconds(config, begin.first) + order_s,
        order_s=order_s,
        resumed_s=_seconds(config, resumed.first) + order_s,
        again_bytes=read_again(order, middle) / ranks * manifest.bytes / manifest.pairs,
        rank_pairs=(int(pairs.min()), int(pairs.max())),
        rank_runs=(int(runs.min()), int(runs.max())),
        breaks=_breaks(config, rates, _node_memory(config, manifest, memory)),
    )


def _manifest(config: SimulateConfig) -> Manifest:
    if config.data is not None:
        return read_manifest(open_store(config.data))
    return paper_manifest(int(config.pairs or 1e7), config.shard_pairs or 1000, config.pair_bytes or 200e3)


def _begun(config: SimulateConfig, manifest: Manifest) -> EpochOrder:
    """The order of an epoch, of which the first rank has what it begins with."""
    own = config.order
    if manifest.pairs < own.lanes:
        raise UserError(f"{manifest.pairs} pairs, expected at least order.lanes={own.lanes}")
    source = Source(shard_pairs=manifest.numbers("pairs"))
    order = EpochOrder([source], seed=own.seed, epoch=0, lanes=own.lanes, block=own.block, window=own.window)
    next(order.rank_windows(0, config.world_size))
    return order


def _order_memory(config: SimulateConfig, manifest: Manifest) -> int:
    """Most bytes that a rank's order takes at once, while it is begun."""
    tracemalloc.start()
    try:
        _begun(config, manifest)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _rates(config: SimulateConfig, read: Reading) -> dict[str, float]:
    """Requests and bytes a second."""
    return {
        f"{own}{name}_per_s": getattr(read.lasting, f"{own}{name}") / read.pairs * config.pairs_per_s
        for own in ("", "index_", "hint_")
        for name in ("requests", "bytes")
    }


def _seconds(config: SimulateConfig, asked: Traffic) -> float:
    """How long a rank waits for what it asks for, while the other ranks of its node do the same."""
    of_network = config.node_gbit * 1e9 / 8 / config.gpus
    return asked.requests / config.reads * config.latency_ms / 1e3 + asked.bytes / of_network


def _memory(config: SimulateConfig, manifest: Manifest, read: Reading) -> dict[str, float]:
    batch = config.order.global_batch // config.world_size
    return {
        "interpreter": _INTERPRETER,
        "manifest": _table_bytes(manifest) or _ENTRY * len(manifest.shards),
        "order": _order_memory(config, manifest),
        "pairs": read.held_bytes,
        "indexes": read.index_memory,
        "windows": SLOTS * prod((batch, 2, config.window_side, config.window_side, 3)),
    }


def _table_bytes(manifest: Manifest) -> int:
    """Size of the table that the ranks of a node share; 0 if there is none."""
    return len(manifest.table.to_bytes()) if len(manifest.shards) > LISTED else 0


def _node_memory(config: SimulateConfig, manifest: Manifest, memory: dict[str, float]) -> float:
    shared = _table_bytes(manifest)
    return config.gpus * (sum(memory.values()) - shared) + shared


def _breaks(config: SimulateConfig, rates: dict[str, float], node_memory: float) -> str:
    """The limit that is met first as ranks are added, or that is exceeded already on one node."""
    most = {
        "network": config.node_gbit * 1e9 / 8 / (rates["bytes_per_s"] * config.gpus),
        "memory": config.node_memory_gb * 1e9 / node_memory,
    }
    for name, share in most.items():  # they are a node's, however many nodes there are
        if share < 1:
            return f"the {name} of a node, which would have to be {1 / share:.2g} times as large"
    ranks = int(config.bucket_requests / rates["requests_per_s"])
    now = "is exceeded" if ranks < config.world_size else "holds"
    return (
        f"the bucket, at {ranks:,} ranks: {config.bucket_requests:,.0f} requests/s ({now} with "
        f"{config.world_size:,}); a node's network is used to {1 / most['network']:.0%}, its memory to "
        f"{1 / most['memory']:.0%}"
    )
