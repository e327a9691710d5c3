"""What validation decides: the best epoch, the learning rate on a plateau, the end of the run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recon.base.errors import UserError
from train.evaluation.metrics import Summary
from train.optim.config import OptimConfig
from train.optim.optimizer import rate_at, warmup_steps

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
    """Sets the learning rate of each step, knows the best epoch, and says when a run is over.

    Args:
        optimizer: its learning rate is set.
        config: of the optimiser.
        steps: of an epoch.
        epochs: of the run.

    Raises:
        UserError: the warm-up is longer than the run.
    """

    def __init__(self, optimizer: Optimizer, config: OptimConfig, *, steps: int = 1, epochs: int = 1) -> None:
        self.config = config
        self.best: Judged | None = None
        """The best validation so far; None before the first."""
        self.rate = config.lr
        """The full rate, after what the plateau has taken off and before what warm-up and decline do."""
        self._last: Judged | None = None
        self._optimizer = optimizer
        self._warmup, self._total = warmup_steps(config, steps), steps * epochs
        if self._warmup > self._total:
            raise UserError(
                f"a warm-up of {self._warmup} steps, but the run has {self._total}: its rate would never get "
                "to optim.lr; lower optim.warmup_steps or optim.warmup_epochs, or raise epochs"
            )
        # torch lowers the rate when the bad epochs exceed its patience, we when they reach ours.
        allowed = max(0, config.patience - 1)
        # threshold and eps of 0: every gain counts, and no step of the rate is skipped as too small.
        self._plateau = ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=allowed, threshold=0.0, eps=0.0
        )

    def set_rate(self, step: int) -> None:
        """Sets the rate of a step, given its number in the run."""
        self._set(rate_at(step, rate=self.rate, warmup=self._warmup, total=self._total, config=self.config))

    def _set(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)  # of `train.optim.optimizer`; the first has 1

    def turn(self, summary: Summary | None, epoch: int) -> bool:
        """Adds the validation of an epoch; returns whether none was better, or there is none."""
        if summary is None:
            return True
        self._last = Judged(epoch=epoch, score=self._score(summary))
        if self.config.schedule == "plateau":
            self._set(self.rate)
            self._plateau.step(self._last.score)
            self.rate = float(self._optimizer.param_groups[0]["lr"])
        is_best = self.best is None or self._last.score >= self.best.score
        if is_best:  # of equals the later, which has seen more
            self.best = self._last
        return is_best

    def told(self) -> str | None:
        """A line about the best and the last epoch; None if this process validated none."""
        if self.best is None or self._last is None:
            return None
        by = judged_by(self.config)
        best, last = (f"epoch {one.epoch} ({by} {abs(one.score):.4f})" for one in (self.best, self._last))
        return f"best.pt is of {best}, the last checkpoint of {last}"

    def _score(self, summary: Summary) -> float:
        value: float | None = getattr(summary, self.config.best_by)
        if value is None:  # images of one class only
            return -math.inf
        return -value if self.config.best_by == "loss" else value

    @property
    def end(self) -> str | None:
        """Why the run ends after the last validation; None if it goes on."""
        return end_of(self.rate, self.best, self.config, 0 if self._last is None else self._last.epoch)

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule without its options, which a continued run may change."""
        course = self._plateau.state_dict()
        return {
            "by": judged_by(self.config),
            "best": None if self.best is None else asdict(self.best),
            "plateau": {name: course[name] for name in _COURSE},
            "rate": self.rate,
        }

    def load_state_dict(self, state: dict[str, Any], *, anew: bool = False) -> None:
        """Restores the state, after that of the optimiser, which alone has the rate in earlier versions.

        Args:
            state: what `state_dict` returned.
            anew: whether to forget the best validation, because later ones can't be compared with it.
        """
        self.rate = state.get("rate", float(self._optimizer.param_groups[0]["lr"]))
        if anew:
            return
        self.best = judged(state)
        self._plateau.load_state_dict(state["plateau"])


def judged_by(config: OptimConfig) -> str:
    """What validations are judged by, in words; equal words can be compared."""
    return config.best_by + (f" on {config.best_on}" if config.best_on else "")


def end_of(rate: float, best: Judged | None, config: OptimConfig, epoch: int) -> str | None:
    """Why a run ends after the validation of an epoch; None if it goes on.

    Args:
        rate: see `Schedule.rate`.
        best: see `Schedule.best`.
        config: of the optimiser.
        epoch: the one that was validated.
    """
    if rate < config.min_lr * (1 - 1e-6):  # divisions by ten round, so a rate of min_lr may be a bit less
        return f"the learning rate fell below {config.min_lr:g}"
    if config.stop_after and best and epoch - best.epoch >= config.stop_after:
        return f"no epoch was better than epoch {best.epoch} for optim.stop_after={config.stop_after} epochs"
    return None


def judged(state: Mapping[str, Any]) -> Judged | None:
    """The best validation in the state of a `Schedule`; earlier versions kept its value alone."""
    best = state["best"]
    return Judged(**best) if isinstance(best, dict) else None
