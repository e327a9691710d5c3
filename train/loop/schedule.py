"""The plateau schedule: divides the learning rate by ten when validation no longer improves."""

import logging
import math
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from train.evaluation.metrics import Summary
from train.loop.config import OptimConfig

_LOG = logging.getLogger(__name__)
# The state of torch's scheduler; its other values are options, which a continued run may change.
_COURSE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A validation, as it was judged."""

    epoch: int
    """After which it was."""
    score: float
    """By `optim.best_by`; higher is better."""


class Schedule:
    """Knows the best epoch, and lowers the learning rate when none has been better for some epochs.

    Args:
        optimizer: its learning rate is set.
        config: gives the measure, the patience and the lowest learning rate.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig) -> None:
        self.config = config
        self.best: Judged | None = None
        """The best validation so far; None before the first."""
        self._last: Judged | None = None
        self._optimizer = optimizer
        # torch lowers the rate when the bad epochs exceed its patience, we when they reach ours.
        allowed = max(0, config.patience - 1)
        # threshold and eps of 0: every gain counts, and no step of the rate is skipped as too small.
        self._plateau = ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=allowed, threshold=0.0, eps=0.0
        )

    def turn(self, summary: Summary | None, epoch: int) -> bool:
        """Adds the validation of an epoch; returns whether none was better, or there is none."""
        if summary is None:
            return True
        self._last = Judged(epoch=epoch, score=self._score(summary))
        self._plateau.step(self._last.score)
        is_best = self.best is None or self._last.score >= self.best.score
        if is_best:  # of equals the later, which has seen more
            self.best = self._last
        return is_best

    def told(self) -> str | None:
        """A line about the best and the last epoch; None if this process validated none."""
        if self.best is None or self._last is None:
            return None
        by = self.config.best_by
        best, last = (f"epoch {one.epoch} ({by} {abs(one.score):.4f})" for one in (self.best, self._last))
        return f"best.pt is of {best}, the last checkpoint of {last}"

    def _score(self, summary: Summary) -> float:
        value: float | None = getattr(summary, self.config.best_by)
        if value is None:  # images of one class only
            return -math.inf
        return -value if self.config.best_by == "loss" else value

    @property
    def is_over(self) -> bool:
        """Whether the learning rate has fallen below its limit, so that the run ends."""
        return is_low(self._optimizer.param_groups[0]["lr"], self.config)

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule without its options, which a continued run may change."""
        course = self._plateau.state_dict()
        best = None if self.best is None else asdict(self.best)
        return {"by": self.config.best_by, "best": best, "plateau": {name: course[name] for name in _COURSE}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state; the learning rate itself is in the state of the optimizer.

        A run that was judged by another measure begins to judge anew: its values can't be compared.
        """
        before = state.get("by", "balanced_accuracy")  # which earlier versions took
        if before != self.config.best_by:
            _LOG.warning("the run is judged anew: by %s now, before by %s", self.config.best_by, before)
            return
        best = state["best"]
        # Earlier versions kept the value alone.
        self.best = Judged(**best) if isinstance(best, dict) else None
        self._plateau.load_state_dict(state["plateau"])


def is_low(lr: float, config: OptimConfig) -> bool:
    """Whether a learning rate is so low that the run ends."""
    return lr < config.min_lr * (1 - 1e-6)  # divisions by ten round, so a rate of min_lr may be a bit less
