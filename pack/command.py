"""Packs real images and their reconstructions into a dataset of WebDataset shards.

    python -m pack --source photos --out data/mine --autoencoder sd15 --val_fraction 0.1
    python -m pack --source real --reconstructions fake --out data/mine
    python -m pack --source published --layout tree --out data/published
    launch/pack.sh --source s3://bucket/photos --out s3://bucket/mine --autoencoder sd15,flux1

A run that was stopped goes on at its first unfinished shard when the same command is given
again, and the bytes are those of an undisturbed run. Images that can't become a pair are
listed with their cause in rejected.jsonl.

Many processes pack together when torchrun or Slurm starts them, or --rank and --world_size tell them
apart: shard n is written by rank n % world_size. They need nothing of each other, each may be run again
at any time and alone, and the bytes are those of one process. Whichever finds all shards there completes
the dataset; python -m pack.finish does so too.
"""

import os
from dataclasses import replace

from pack.base.config import PackConfig
from pack.plan.ranks import find_rank
from recon.base.cli import run
from recon.base.memory import keep_freed_memory


def main() -> None:
    """The command ``python -m pack``."""
    run(PackConfig, _job, prog="python -m pack", about=__doc__ or "")


def _job(config: PackConfig) -> None:
    keep_freed_memory()  # now: numpy brings the first threads
    if config.rank is None:
        found = find_rank(os.environ)
        config = replace(config, rank=found.rank, world_size=found.world)
    if config.dry_run:
        from pack.publish.dry_run import dry_run

        dry_run(config)
        return
    from pack.publish.packing import pack

    pack(config)
