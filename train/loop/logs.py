"""The log of a run: metrics.jsonl, timing.jsonl, TensorBoard and the progress bar.

A repeated run writes the same metrics.jsonl; times, which differ, go to timing.jsonl.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from recon.base.errors import UserError
from recon.base.progress import Progress
from train.evaluation.metrics import Summary
from train.loop.trainee import StepResult
from train.output.lease import Lease
from train.output.run_folder import METRICS, QUARANTINE, TIMING, RunFolder

_LOG = logging.getLogger(__name__)


class RunLog:
    """The log of one process; only rank 0 writes files.

    Args:
        out: directory or URL of the run.
        every: steps between two lines.
        writes: whether this is rank 0.
        state: the ``log`` of the checkpoint that the run continues from; None for a new run.
        step: the step of that checkpoint.
        lease: the lease on `out`; None if `out` is a directory.
    """

    def __init__(
        self,
        out: str,
        *,
        every: int,
        writes: bool,
        state: Mapping[str, Any] | None = None,
        step: int = 0,
        lease: Lease | None = None,
    ) -> None:
        self.every, self.writes = every, writes
        self.quarantined: Counter[str] = Counter()
        """Number of damaged pairs by cause; each line of the log shows it."""
        self._clear()
        if state is not None:
            self.loss_sum, self.images = state["loss_sum"], state["images"]
            self.steps, self.left_out = state["steps"], state["left_out"]
        if writes:
            from torch.utils.tensorboard import SummaryWriter

            self.folder = RunFolder(out, None if state is None else state["lengths"], lease)
            try:
                # Hides the points after the checkpoint that the interrupted run had written.
                self.board = SummaryWriter(str(self.folder.board), purge_step=step + 1)
            except OSError as error:
                raise UserError(
                    f"can't write the log in {self.folder.board}: {error.strerror or error}"
                ) from error

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint: the sums since the last line, and the lengths of the files."""
        sums = {"loss_sum": self.loss_sum, "images": self.images}
        return sums | {"steps": self.steps, "left_out": self.left_out, "lengths": self.folder.lengths()}

    def _clear(self) -> None:
        self.loss_sum, self.images, self.steps, self.left_out = 0.0, 0, 0, 0
        self._restart_clock()

    def _restart_clock(self) -> None:
        self.waited_s, self.timed_images, self.since = 0.0, 0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Context manager: the time inside counts as waiting for data."""
        start = time.monotonic()
        yield
        self.waited_s += time.monotonic() - start

    def step(self, result: StepResult, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Adds the results of one step; writes a line after every `every` steps."""
        self.steps += 1
        self.timed_images += result.images
        if result.applied:
            self.loss_sum, self.images = self.loss_sum + result.loss_sum, self.images + result.images
        else:
            self.left_out += 1
        if bar:
            bar.update(result.images // 2 + result.damaged)
        if step % self.every == 0:
            self.flush(epoch=epoch, step=step, lr=lr, bar=bar)

    def flush(self, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Writes a line for the steps since the last line, if there are any; also called after each epoch."""
        if not self.steps:
            return
        seconds = max(time.monotonic() - self.since, 1e-9)  # coarse clocks may give 0
        loss = self.loss_sum / self.images if self.images else None
        timing = {"pairs_per_s": self.timed_images / 2 / seconds, "waiting_share": self.waited_s / seconds}
        if self.writes:
            self.folder.append(
                METRICS,
                {"step": step, "epoch": epoch, "loss": loss, "lr": lr, "left_out": self.left_out},
            )
            self.folder.append(TIMING, {"step": step, "seconds": seconds} | timing)
            self._scalars({"train/loss": loss, "train/lr": lr}, step)
            self._scalars({f"time/{name}": value for name, value in timing.items()}, step)
            self._scalars(self._quarantine(), step)
        if bar:
            shown = "-" if loss is None else f"{loss:.3f}"
            waiting = f"waiting for data {timing['waiting_share']:.0%}"
            bar.note(f"loss {shown}, {waiting}, {self.quarantined.total()} quarantined")
        self._clear()

    def validation(self, summary: Summary, *, epoch: int, step: int) -> None:
        """Writes the results of a validation."""
        if self.writes:
            self.folder.append(METRICS, {"step": step, "epoch": epoch, "val": asdict(summary)})
            self._scalars({f"val/{name}": value for name, value in asdict(summary).items()}, step)
            self._scalars(self._quarantine(), step)
            figures = (summary.auc, summary.balanced_accuracy)
            shown = ("-" if value is None else f"{value:.4f}" for value in figures)
            _LOG.info("epoch %d: validation AUC %s, balanced accuracy %s", epoch, *shown)
        self._restart_clock()  # the time of the validation is not part of the next training line

    def damaged(self, values: dict[str, Any]) -> None:
        """Adds a line to quarantine.jsonl."""
        self.folder.append(QUARANTINE, values)

    def listed(self) -> list[dict[str, Any]]:
        """The lines of quarantine.jsonl on rank 0, nothing on the other ranks."""
        return self.folder.lines(QUARANTINE) if self.writes else []

    def _quarantine(self) -> dict[str, float]:
        by_cause = {f"quarantine/{cause}": float(pairs) for cause, pairs in self.quarantined.items()}
        return {"quarantine/pairs": float(self.quarantined.total())} | by_cause

    def _scalars(self, values: Mapping[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self.board.add_scalar(name, value, step)

    def sync(self) -> None:
        """Flushes all files to disk, or uploads them to the bucket."""
        if self.writes:
            self.board.flush()
            self.folder.sync()

    def close(self) -> None:
        """Closes the files."""
        if self.writes:
            self.board.close()  # first: closing the folder uploads the files of TensorBoard
            self.folder.close()
