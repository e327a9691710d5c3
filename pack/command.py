"""Packs real images and their reconstructions into a dataset of WebDataset shards.

    python -m pack --source photos --out data/mine --autoencoder sd15 --val_fraction 0.1
    python -m pack --source real --reconstructions fake --out data/mine
    python -m pack --source published --layout tree --out data/published
    launch/pack.sh --source s3://bucket/photos --out s3://bucket/mine --autoencoder sd15,flux1

If a run was stopped, give the same command again: it continues at its first unfinished shard, and
the bytes are the same as those of an undisturbed run. Images that can't become a pair are listed
with the cause in rejected.jsonl.

Many processes can pack one dataset: started by torchrun or Slurm, or each by hand with --rank and
--world_size. Rank n % world_size writes shard n. The processes don't communicate: each may run at any
time, alone and again, and the bytes are the same as those of one process. The process that finds all
shards finished completes the dataset; python -m pack.finish does the same. After SIGTERM
a process removes what it has not finished, and ends with status 143.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pack.base.config import PackConfig
from pack.plan.array import rank_of_index
from pack.plan.ranks import find_rank
from recon.base.cli import run
from recon.base.memory import keep_freed_memory
from recon.launcher.launcher import is_launched

_LOG = logging.getLogger(__name__)


def main() -> None:
    """The command ``python -m pack``."""
    run(PackConfig, _job, prog="python -m pack", about=__doc__ or "")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Context manager: SIGTERM ends the process as Ctrl-C does: uploads are aborted, files removed."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second SIGTERM ends the process at once
        _LOG.info("asked to end: the same command continues at the first unfinished shard")
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@_ended_by_sigterm()
def _job(config: PackConfig) -> None:
    keep_freed_memory()  # first, because numpy starts threads when it is imported
    if config.engine:
        from pack.publish.ray_engine import pack_by_actors

        pack_by_actors(config)
        return
    if config.rank is None:
        world = config.world_size
        found = find_rank(os.environ) if world is None else rank_of_index(os.environ, world)
        config = replace(config, rank=found.rank, world_size=found.world)
        if found.by and not (found.by == "RANK" and is_launched()):  # else it has told the node's place
            _LOG.info("rank %d of %d by %s", found.rank, found.world, found.by)
    # Imported here: --help needs no numpy, and numpy must come after `keep_freed_memory`.
    if config.dry_run:
        from pack.publish.dry_run import dry_run

        dry_run(config)
        return
    from pack.publish.packing import pack

    pack(config)
