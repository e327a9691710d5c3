"""Says what a training run would ask of its bucket, network and memory, for a dataset that need not exist.

    python -m train.simulate --nodes 128 --gpus 8 --pairs 1e9 --order.lanes 3072 --order.global_batch 4096
    python -m train.simulate --nodes 1 --gpus 8 --data s3://bucket/mine/train      the shards of that manifest

The order of the epoch and the reading are those of training, so requests, bytes, held pairs and balance are
counted, and depend on no machine. The speed of the ranks, the latency of a request and the limits of bucket,
network and memory are yours to give; seconds are computed from them. Without data.cache_dir, every epoch
asks for the same; with it, only the first one does.
"""

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one, not_negative
from recon.base.progress import counted
from train.order.config import OrderConfig

if TYPE_CHECKING:  # imports numpy
    from train.simulate.figures import Figures


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """The options of ``python -m train.simulate``."""

    nodes: int = 1
    """Machines."""
    gpus: int = 8
    """Ranks of each machine."""
    data: str | None = None
    """Directory or URL of a packed dataset, of which the manifest alone is read; without it, one is made up
    from pairs, shard_pairs and pair_bytes."""
    pairs: float | None = None
    """Pairs of the made-up dataset: 1e7 by default."""
    shard_pairs: int | None = None
    """Pairs of each of its shards: 1000 by default."""
    pair_bytes: float | None = None
    """Bytes of a pair in the tar: 200e3 by default."""
    index_bytes: float = 220.0
    """Bytes of a shard's index for each of its pairs."""
    hint_bytes: float = 3000.0
    """Bytes of the hints of each pair where they lie beside the tars (python -m pack.index): then a second
    request brings them with each block. 704 for the colours of each image, and .8 % of the pair's bytes for
    entry points."""
    pairs_per_s: float = 500.0
    """Pairs that a rank trains on in a second, if it needn't wait."""
    order: OrderConfig = field(default_factory=OrderConfig)
    """The order of an epoch."""
    reads: int = 4
    """Requests that a rank makes at the same time (data.reads)."""
    read_ahead_mb: int = 64
    """MiB that a rank reads in advance (data.read_ahead_mb)."""
    window_side: int = 152
    """Side of the windows that are cut out of the images: 152 for augment.crop 96 of the paper's recipe."""
    latency_ms: float = 30.0
    """Milliseconds until the first byte of a request comes."""
    node_gbit: float = 25.0
    """Gigabit that a machine's network takes in a second."""
    node_memory_gb: float = 256.0
    """Memory that a machine has for its loaders, in GB."""
    bucket_requests: float = 5500.0
    """Requests that the bucket answers in a second. AWS names 5,500 GETs for each prefix, and the shards of a
    dataset have one prefix."""
    json: bool = False
    """Print the figures as JSON."""

    def __post_init__(self) -> None:
        made_up = [name for name in ("pairs", "shard_pairs", "pair_bytes") if getattr(self, name) is not None]
        if made_up and self.data is not None:
            raise UserError(
                f"{made_up[0]}={getattr(self, made_up[0]):g} is of a made-up dataset, but data={self.data} "
                "names one that is there; give one of the two"
            )
        at_least_one(self, "nodes", "gpus", *made_up, "reads", "read_ahead_mb", "window_side")
        not_negative(self, "index_bytes", "hint_bytes", "latency_ms")
        for name in ("pairs_per_s", "node_gbit", "node_memory_gb", "bucket_requests"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)}, expected more than 0")
        if self.pairs is not None and (not float(self.pairs).is_integer() or self.pairs > 2e10):
            raise UserError(f"pairs={self.pairs}, expected a whole number of at most 2e10")

    @property
    def world_size(self) -> int:
        """Ranks of all machines."""
        return self.nodes * self.gpus


def main() -> None:
    """Runs the command line."""
    run(SimulateConfig, _job, prog="python -m train.simulate", about=__doc__ or "")


def _job(config: SimulateConfig) -> None:
    from train.simulate.figures import simulate

    figures = simulate(config)
    text = json.dumps(figures.facts(), indent=1) if config.json else _text(config, figures)
    sys.stdout.write(text + "\n")


def _text(config: SimulateConfig, found: "Figures") -> str:
    memory = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in found.memory.items())
    hints = [
        ("  for hints beside tars", *_thrice(config, found.hint_requests_per_s)),
        ("  hints beside tars", *_thrice(config, found.hint_bytes_per_s / 1e6)),
    ]
    asked, sent = ([one] if found.hint_requests_per_s else [] for one in hints)
    rows = [
        ("", "a rank", "a node", "all"),
        ("requests/s on the bucket", *_thrice(config, found.requests_per_s)),
        ("  of these for indexes", *_thrice(config, found.index_requests_per_s)),
        *asked,
        ("MB/s on the bucket", *_thrice(config, found.bytes_per_s / 1e6)),
        ("  of these indexes", *_thrice(config, found.index_bytes_per_s / 1e6)),
        *sent,
        ("memory of loaders, MB", *_memory(config, found)),
        ("first batch: requests", *_thrice(config, found.first.requests)),
        ("first batch: MB", *_thrice(config, found.first.bytes / 1e6)),
        ("resume: MB read again", *_thrice(config, found.again_bytes / 1e6)),
    ]
    size = f"{found.pairs:,} pairs in {found.shards:,} shards, {found.bytes / 1e12:.3g} TB"
    return "\n".join(
        [
            f"{config.world_size:,} ranks on {counted(config.nodes, 'node')}; {size}; "
            f"{config.pairs_per_s:g} pairs/s a rank",
            "",
            *(f"{what:26}{one:>14}{node:>14}{world:>14}" for what, one, node, world in rows),
            "",
            f"memory of a rank, MB: {memory}",
            f"first batch after {found.first_s:.1f} s, of a resume after {found.resumed_s:.1f} s; "
            f"the order takes {found.order_s:.1f} s of that (CPU time here)",
            f"epoch: {found.steps:,} steps, {found.epoch_s / 3600:.3g} h; "
            f"the last has {found.masked:,} empty slots",
            f"balance: {_range(found.rank_pairs)} pairs a rank, {_range(found.rank_runs)} blocks or parts",
            f"breaks first: {found.breaks}",
        ]
    )


def _thrice(config: SimulateConfig, of_rank: float) -> tuple[str, str, str]:
    """A figure of a rank, of a node and of all."""
    return _short(of_rank), _short(of_rank * config.gpus), _short(of_rank * config.world_size)


def _memory(config: SimulateConfig, found: "Figures") -> tuple[str, str, str]:
    node = found.node_memory / 1e6
    return _short(sum(found.memory.values()) / 1e6), _short(node), _short(node * config.nodes)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(values: tuple[int, int]) -> str:
    least, most = values
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
