"""Takes the results of the steps. Losses come a step later, when the device has them: nobody waits for it."""

from dataclasses import asdict, dataclass

from recon.base.errors import UserError
from recon.base.progress import Progress
from train.loader.transfer import Batch
from train.loop.logs import RunLog
from train.loop.quarantine import Quarantine
from train.loop.trainee import StepResult


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """Which step a result is of."""

    epoch: int
    step: int
    """How many were done with it."""
    lr: float
    """Its learning rate."""


class Results:
    """Logs the results of steps, and counts damaged pairs and losses that are not finite.

    Args:
        log: of the run.
        quarantine: of the run.
        limit: so many steps may have a non-finite loss.
        nonfinite: so many had one before a run was continued.
    """

    def __init__(self, log: RunLog, quarantine: Quarantine, *, limit: int, nonfinite: int = 0) -> None:
        self.nonfinite = nonfinite
        self._log, self._quarantine, self._limit = log, quarantine, limit
        self._last: tuple[StepResult, StepDone] | None = None

    def add(self, batch: Batch, result: StepResult, done: StepDone, bar: Progress | None) -> None:
        """Takes the result of a step, which may still run on the device; what is logged is the step before.

        Args:
            batch: of the step.
            result: of the step.
            done: which step it was.
            bar: to show the progress in.

        Raises:
            UserError: too many pairs are damaged, or too many losses were not finite.
        """
        self.settle(bar)
        self._last = result, done
        valid, place = result.pairs, {"epoch": done.epoch, "step": done.step}
        self._quarantine.take(batch.damaged, damaged=result.damaged, valid=valid, **place)

    def settle(self, bar: Progress | None) -> None:
        """Waits for the last step and logs it; before a checkpoint, which holds the log's sums.

        Raises:
            UserError: see `add`.
        """
        if self._last is None:
            return
        result, done = self._last
        self._last = None
        self._log.step(result, **asdict(done), bar=bar)
        self.nonfinite += result.images > 0 and not result.applied
        if self.nonfinite > self._limit:
            raise UserError(
                f"{self.nonfinite} steps had a non-finite loss, the last is step {done.step}; "
                "lower optim.lr, use precision=float32, or raise optim.max_nonfinite"
            )
