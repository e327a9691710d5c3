"""Trains a detector of generated images on packed pairs.

    python -m train --config configs/demo.yaml --out runs/one
    torchrun --standalone --nproc-per-node 2 -m train --config configs/aligned-iclr25.yaml
    launch/torchrun.sh --config configs/aligned-iclr25.yaml        (the same, on one node or many)

The run directory gets last.pt and best.pt, metrics.jsonl, timing.jsonl and TensorBoard files.
"""

import os

from recon.cli import run
from train.config import TrainConfig


def main() -> None:
    """The command."""
    run(TrainConfig, _job, prog="python -m train", about=__doc__ or "")


def _job(config: TrainConfig) -> None:
    # DDP would warn of find_unused_parameters, which World.wrap sets for a reason.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from train.run import train

    train(config)
