"""The command ``python -m train.evaluate``: scores images with a trained detector, on any number of ranks."""

import os
from collections.abc import Callable
from typing import TypeVar

from recon.base.cli import run
from train.evaluation import evaluate
from train.evaluation.evaluate import EvaluateConfig
from train.evaluation.work.ranks import ALONE, Ranks
from train.world.launch import find_launch

Config = TypeVar("Config", bound=EvaluateConfig)


def main() -> None:
    """Runs the command line."""
    run(EvaluateConfig, _job, prog="python -m train.evaluate", about=evaluate.__doc__ or "")


def on_ranks(config: Config, tell: Callable[[Config, Ranks], None]) -> None:
    """Calls `tell` in this process, which is one of those that torchrun has started, if it has."""
    launch = find_launch(os.environ)
    if launch.size == 1:
        tell(config, ALONE)
        return
    from train.world.world import open_world

    with open_world(config.device, launch) as world:
        tell(config, world)


def _job(config: EvaluateConfig) -> None:
    on_ranks(config, evaluate.tell)


if __name__ == "__main__":
    main()
