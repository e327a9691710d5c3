"""The command ``python -m train.robustness``: a detector's figures under a grid of degradations."""

from recon.base.cli import run
from train.evaluate import on_ranks
from train.evaluation.robust import robustness
from train.evaluation.robust.robustness import RobustnessConfig


def main() -> None:
    """Runs the command line."""
    run(RobustnessConfig, _job, prog="python -m train.robustness", about=robustness.__doc__ or "")


def _job(config: RobustnessConfig) -> None:
    on_ranks(config, robustness.tell)


if __name__ == "__main__":
    main()
