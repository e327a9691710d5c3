"""The log of a run: metrics.jsonl, timing.jsonl, curves and the progress bar.

A repeated run writes the same metrics.jsonl; times, which differ, go to timing.jsonl.
"""

import logging
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch.autograd.profiler import record_function

from recon.base.errors import message_of
from recon.base.paths import printable
from recon.base.progress import Progress, clock
from train.loop.config import TrainConfig
from train.loop.trainee import StepResult
from train.loop.validation import Validated
from train.output.boards import Board, RunFacts, open_boards
from train.output.lease import Lease
from train.output.run_folder import METRICS, QUARANTINE, TIMING, RunFolder

_LOG = logging.getLogger(__name__)


class RunLog:
    """The log of one process; only rank 0 writes files.

    Args:
        config: of the run.
        writes: whether this is rank 0.
        state: the ``log`` of the checkpoint that the run continues from; None for a new run.
        step: the step of that checkpoint.
        lease: the lease on the run's URL; None if it is a directory.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        writes: bool,
        state: Mapping[str, Any] | None = None,
        step: int = 0,
        lease: Lease | None = None,
    ) -> None:
        self.every, self.writes = config.log_every, writes
        self.quarantined: Counter[str] = Counter()
        """Number of damaged pairs by cause; each line of the log shows it."""
        self._clear()
        if state is not None:
            self.loss_sum, self.images = state["loss_sum"], state["images"]
            self.steps, self.left_out = state["steps"], state["left_out"]
        self.spent: dict[str, float] = defaultdict(float)
        """Seconds of this start by what the run waited for."""
        self._began = time.monotonic()
        if writes:
            self.folder = RunFolder(config.out, None if state is None else state["lengths"], lease)
            self.run_id = str((state or {}).get("run_id") or secrets.token_hex(8))
            facts = RunFacts(out=printable(config.out), id=self.run_id, step=step, options=asdict(config))
            self.boards = open_boards(facts, self.folder.board, config.tracker, config.prometheus)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint: the sums since the last line, and the lengths of the files."""
        sums = {"loss_sum": self.loss_sum, "images": self.images}
        sums |= {"steps": self.steps, "left_out": self.left_out, "lengths": self.folder.lengths()}
        return sums | {"run_id": self.run_id}

    def _clear(self) -> None:
        self.loss_sum, self.images, self.steps, self.left_out = 0.0, 0, 0, 0
        self._restart_clock()

    def _restart_clock(self) -> None:
        self.waited_s, self.timed_pairs, self.since = 0.0, 0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Context manager: the time inside counts as waiting for data."""
        before = self.spent["data"]
        with self.spending("data"), record_function("loader"):
            yield
        self.waited_s += self.spent["data"] - before

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Context manager: the time inside is told at the end of the run."""
        start = time.monotonic()
        yield
        self.spent[what] += time.monotonic() - start

    def told(self) -> str:
        """A line on what the run waited for."""
        total = max(time.monotonic() - self._began, 1e-9)
        rest = total - sum(self.spent.values())
        shares = [f"{what} {seconds / total:.0%}" for what, seconds in self.spent.items()]
        return f"{clock(total)}: steps {rest / total:.0%}, {', '.join(shares)} of the time"

    def step(self, result: StepResult, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Adds the results of one step; writes a line after every `every` steps."""
        self.steps += 1
        self.timed_pairs += result.pairs
        if result.applied:
            self.loss_sum, self.images = self.loss_sum + result.loss_sum, self.images + result.images
        else:
            self.left_out += 1
        if bar:
            bar.update(result.pairs + result.damaged)
        if step % self.every == 0:
            self.flush(epoch=epoch, step=step, lr=lr, bar=bar)

    def flush(self, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Writes a line for the steps since the last line, if there are any; also called after each epoch."""
        if not self.steps:
            return
        seconds = max(time.monotonic() - self.since, 1e-9)  # coarse clocks may give 0
        loss = self.loss_sum / self.images if self.images else None
        timing = {"pairs_per_s": self.timed_pairs / seconds, "waiting_share": self.waited_s / seconds}
        if self.writes:
            self.folder.append(
                METRICS,
                {"step": step, "epoch": epoch, "loss": loss, "lr": lr, "left_out": self.left_out},
            )
            self.folder.append(TIMING, {"step": step, "seconds": seconds} | timing)
            times = {f"time/{name}": value for name, value in timing.items()}
            self._draw({"train/loss": loss, "train/lr": lr} | times | self._quarantine(), step)
        if bar:
            shown = "-" if loss is None else f"{loss:.3f}"
            waiting = f"waiting for data {timing['waiting_share']:.0%}"
            bar.note(f"loss {shown}, {waiting}, {self.quarantined.total()} quarantined")
        self._clear()

    def validation(self, validated: Validated, *, epoch: int, step: int) -> None:
        """Writes the results of a validation."""
        if self.writes:
            self._write_validation(validated, epoch, step)
        self._restart_clock()  # the time of the validation is not part of the next training line

    def _write_validation(self, validated: Validated, epoch: int, step: int) -> None:
        several = validated.sets if len(validated.sets) > 1 else {}
        judged, sets = asdict(validated.judged), {name: asdict(one) for name, one in several.items()}
        line = {"step": step, "epoch": epoch, "val": judged}
        self.folder.append(METRICS, line | ({"sets": sets} if sets else {}))
        curves = {f"val/{name}": value for name, value in judged.items()}
        for name, values in sets.items():
            curves |= {f"val/{name}/{figure}": value for figure, value in values.items()}
        self._draw(curves | self._quarantine(), step)
        for name, summary in (several or {"": validated.judged}).items():
            figures = (summary.auc, summary.balanced_accuracy)
            shown = ("-" if value is None else f"{value:.4f}" for value in figures)
            on = f" on {name}" if name else ""
            _LOG.info("epoch %d: validation%s AUC %s, balanced accuracy %s", epoch, on, *shown)

    def damaged(self, values: dict[str, Any]) -> None:
        """Adds a line to quarantine.jsonl."""
        self.folder.append(QUARANTINE, values)

    def listed(self) -> list[dict[str, Any]]:
        """The lines of quarantine.jsonl on rank 0, nothing on the other ranks."""
        return self.folder.lines(QUARANTINE) if self.writes else []

    def _quarantine(self) -> dict[str, float]:
        by_cause = {f"quarantine/{cause}": float(pairs) for cause, pairs in self.quarantined.items()}
        return {"quarantine/pairs": float(self.quarantined.total())} | by_cause

    def _draw(self, values: Mapping[str, float | None], step: int) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        self._on_boards(lambda board: board.add(known, step))

    def _on_boards(self, act: Callable[[Board], None]) -> None:
        """Does something with each board; one that fails is left alone from then on."""
        for board in list(self.boards):
            try:
                act(board)
            except Exception as error:  # of packages of others: no reason to end a training
                _LOG.warning("%s gets no more points: %s", type(board).__name__, message_of(error))
                self.boards.remove(board)

    def sync(self) -> None:
        """Flushes all files to disk, or uploads them to the bucket."""
        if self.writes:
            self._on_boards(lambda board: board.flush())
            self.folder.sync()

    def close(self) -> None:
        """Closes the files."""
        if self.writes:
            failed = sys.exception() is not None
            self._on_boards(lambda board: board.close(failed=failed))
            self.folder.close()  # last: it uploads the files of TensorBoard
