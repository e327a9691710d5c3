"""The command ``python -m train.evaluate``: scores images with a trained detector, on any number of ranks."""

import os

from recon.base.cli import run
from train.evaluation import evaluate
from train.evaluation.evaluate import EvaluateConfig
from train.world.launch import find_launch


def main() -> None:
    """Runs the command line."""
    run(EvaluateConfig, _job, prog="python -m train.evaluate", about=evaluate.__doc__ or "")


def _job(config: EvaluateConfig) -> None:
    launch = find_launch(os.environ)
    if launch.size == 1:
        evaluate.tell(config)
        return
    from train.world.world import open_world

    with open_world(config.device, launch) as world:
        evaluate.tell(config, world)


if __name__ == "__main__":
    main()
