"""The plateau schedule: divides the learning rate by ten when validation no longer improves."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from train.evaluation.metrics import Summary
from train.loop.config import OptimConfig

# The state of torch's scheduler; its other values are options, which a continued run may change.
_COURSE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class Schedule:
    """Lowers the learning rate when the balanced accuracy has not risen for some epochs.

    Args:
        optimizer: its learning rate is set.
        config: gives the patience and the lowest learning rate.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig) -> None:
        self.config = config
        self.best = -1.0
        """Highest balanced accuracy so far."""
        self._optimizer = optimizer
        # torch lowers the rate when the bad epochs exceed its patience, we when they reach ours.
        allowed = max(0, config.patience - 1)
        # threshold and eps of 0: every gain counts, and no step of the rate is skipped as too small.
        self._plateau = ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=allowed, threshold=0.0, eps=0.0
        )

    def turn(self, summary: Summary | None) -> bool:
        """Adds the validation of an epoch; returns whether it is the best so far, or there is none."""
        if summary is None:
            return True
        score = summary.balanced_accuracy or 0.0
        self._plateau.step(score)
        is_best = score > self.best
        self.best = max(self.best, score)
        return is_best

    @property
    def is_over(self) -> bool:
        """Whether the learning rate has fallen below its limit, so that the run ends."""
        return is_low(self._optimizer.param_groups[0]["lr"], self.config)

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule without its options, which a continued run may change."""
        course = self._plateau.state_dict()
        return {"best": self.best, "plateau": {name: course[name] for name in _COURSE}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state; the learning rate itself is in the state of the optimizer."""
        self.best = state["best"]
        self._plateau.load_state_dict(state["plateau"])


def is_low(lr: float, config: OptimConfig) -> bool:
    """Whether a learning rate is so low that the run ends."""
    return lr < config.min_lr * (1 - 1e-6)  # divisions by ten round, so a rate of min_lr may be a bit less
