"""The command ``python -m train.evaluate``: scores images with a trained detector, on any number of ranks."""

import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from recon.base.cli import run
from recon.launcher.launcher import is_launched
from train.evaluation import evaluate
from train.evaluation.evaluate import EvaluateConfig
from train.evaluation.images_config import MAY_DIFFER
from train.evaluation.work.ranks import ALONE, Ranks
from train.world.config import WorldConfig
from train.world.launch import find_launch

# The ranks meet once, when each has scored its own images, and one may have got larger images than another.
_PATIENT = WorldConfig(timeout_s=3600, alone_timeout_s=3600)

_LOG = logging.getLogger(__name__)

Config = TypeVar("Config", bound=EvaluateConfig)


def main() -> None:
    """Runs the command line."""
    run(EvaluateConfig, _job, prog="python -m train.evaluate", about=evaluate.__doc__ or "")


def on_ranks(config: Config, tell: Callable[[Config, Ranks], None]) -> None:
    """Calls `tell` in this process, which is one of those that torchrun has started, if it has.

    Raises:
        UserError: on all ranks, if their options differ.
    """
    launch = find_launch(os.environ)
    if launch.size == 1:
        tell(config, ALONE)
        return
    from train.world.agree import refuse_unlike
    from train.world.world import open_world

    if launch.rank == 0 and launch.told and not is_launched():
        _LOG.info("%s", launch.told)
    with open_world(config.device, launch, _PATIENT) as world:
        given = {name: value for name, value in asdict(config).items() if name not in MAY_DIFFER}
        refuse_unlike(world, given | {"device found": world.device.type}, what="options")
        tell(config, world)


def _job(config: EvaluateConfig) -> None:
    on_ranks(config, evaluate.tell)


if __name__ == "__main__":
    main()
