"""Takes the results of the steps one step later, when the device has them: so nobody waits for it."""

from recon.base.errors import UserError
from recon.base.progress import Progress
from train.loop.logs import RunLog
from train.loop.trainee import StepResult


class Results:
    """Logs the results of steps, and counts those whose loss is not finite.

    Args:
        log: of the run.
        limit: so many steps may have a non-finite loss.
        nonfinite: so many had one before a run was continued.
    """

    def __init__(self, log: RunLog, *, limit: int, nonfinite: int = 0) -> None:
        self.nonfinite = nonfinite
        self._log, self._limit = log, limit
        self._last: tuple[StepResult, int, int, float] | None = None

    def add(self, result: StepResult, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Takes the result of a step; what is logged now is the step before.

        Args:
            result: of the step, which may still run on the device.
            epoch: of the step.
            step: how many were done with it.
            lr: its learning rate.
            bar: to show the progress in.

        Raises:
            UserError: too many losses were not finite.
        """
        self.settle(bar)
        self._last = result, epoch, step, lr

    def settle(self, bar: Progress | None) -> None:
        """Waits for the last step and logs it; before a checkpoint, which holds the log's sums.

        Raises:
            UserError: see `add`.
        """
        if self._last is None:
            return
        result, epoch, step, lr = self._last
        self._last = None
        self._log.step(result, epoch=epoch, step=step, lr=lr, bar=bar)
        self.nonfinite += result.images > 0 and not result.applied
        if self.nonfinite > self._limit:
            raise UserError(
                f"{self.nonfinite} steps had a non-finite loss, the last is step {step}; "
                "lower optim.lr, use precision=float32, or raise optim.max_nonfinite"
            )
