"""Packs real images and their reconstructions into a dataset of WebDataset shards.

    python -m pack --source photos --out data/mine --autoencoder sd15 --val_fraction 0.1
    python -m pack --source real --reconstructions fake --out data/mine
    python -m pack --source published --layout tree --out data/published

A run that was stopped goes on at its first unfinished shard when the same command is given
again, and the bytes are those of an undisturbed run. Images that can't become a pair are
listed with their cause in rejected.jsonl.
"""

from pack.config import PackConfig
from recon.cli import run


def main() -> None:
    """The command ``python -m pack``."""
    run(PackConfig, _job, prog="python -m pack", about=__doc__ or "")


def _job(config: PackConfig) -> None:
    from pack.packing import pack

    pack(config)
