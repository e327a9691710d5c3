"""Trains a detector of generated images on packed pairs.

    python -m train --config configs/cpu.yaml --out runs/one --data.train data/mine/train
    torchrun --standalone --nproc-per-node 2 -m train --config configs/aligned-iclr25.yaml ...
    launch/torchrun.sh --config configs/aligned-iclr25.yaml ...    (the same, on one node or many)
    python -m train ... --augment dda --augment.jpeg_p 0.3         (a recipe, one field changed)
    python -m train ... --data.val data/mine/val                   (validates, and keeps the best)

The run directory (or URL) holds the checkpoints step-00001000.pt and so on, best.pt, metrics.jsonl,
timing.jsonl, quarantine.jsonl and TensorBoard files. With --resume auto the same command starts a run
and later continues it. After SIGTERM or SIGUSR1 all ranks save a checkpoint at the same step and exit
with status 75.
"""

import logging
import os

from recon.base.cli import run
from recon.launcher.launcher import is_launched
from train.draws.config import RECIPES
from train.loop.config import TrainConfig
from train.world.launch import find_launch
from train.world.stop import Preempted, StopFlag

_LOG = logging.getLogger(__name__)


def main() -> None:
    """Runs the command ``python -m train``."""
    stop = StopFlag()
    stop.listen()  # before the slow imports: a signal that comes during them must not kill the process
    job, recipes = (lambda config: _job(config, stop)), {"augment": RECIPES}
    run(TrainConfig, job, prog="python -m train", about=__doc__ or "", recipes=recipes)


def _job(config: TrainConfig, stop: StopFlag) -> int:
    # Hides DDP's warning about find_unused_parameters, which `World.wrap` sets on purpose.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    launch = find_launch(os.environ)
    if launch.rank == 0 and launch.told and not is_launched():  # else it has told the node's place
        _LOG.info("%s", launch.told)
    if launch.rank == 0 and launch.max_restarts and (launch.nodes or 1) > 1 and config.resume != "auto":
        _LOG.warning("MAX_RESTARTS without --resume auto: a node that came back would be refused")
    from train.loop.run import train

    try:
        train(config, launch=launch, stop=stop)
    except Preempted as end:
        if launch.rank == 0:
            _LOG.info("%s", end)
        return os.EX_TEMPFAIL
    finally:
        # All is saved; a signal that comes from here on must not change the exit status.
        stop.ignore()
    return 0
