"""The plateau schedule: divide the rate by ten when validation gains no more, and stop below a limit."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from train.evaluation.metrics import Summary
from train.loop.config import OptimConfig

_COURSE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")  # the rest are options


class Schedule:
    """Watches balanced accuracy over the epochs of a run.

    Args:
        optimizer: whose rate it sets.
        config: its patience and least rate.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig) -> None:
        self.config = config
        self.best = -1.0
        """Highest balanced accuracy so far."""
        self._optimizer = optimizer
        allowed = max(0, config.patience - 1)  # torch counts the epochs that it lets pass
        self._plateau = ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=allowed, threshold=0.0, eps=0.0
        )

    def turn(self, summary: Summary | None) -> bool:
        """Takes in an epoch's validation; returns whether none before was better (or there is none)."""
        if summary is None:
            return True
        score = summary.balanced_accuracy or 0.0
        self._plateau.step(score)
        is_best = score > self.best
        self.best = max(self.best, score)
        return is_best

    @property
    def is_over(self) -> bool:
        """Whether the rate has fallen below its limit."""
        return is_low(self._optimizer.param_groups[0]["lr"], self.config)

    def state_dict(self) -> dict[str, Any]:
        """How far it has come; not its options, which the run may change."""
        course = self._plateau.state_dict()
        return {"best": self.best, "plateau": {name: course[name] for name in _COURSE}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there; the rate itself is in the optimiser's state."""
        self.best = state["best"]
        self._plateau.load_state_dict(state["plateau"])


def is_low(lr: float, config: OptimConfig) -> bool:
    """Whether a rate is so low that the run ends."""
    return lr < config.min_lr * (1 - 1e-6)  # tenths of tenths are not exact
