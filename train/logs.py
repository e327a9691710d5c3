"""What a run writes down: metrics.jsonl, timing.jsonl, TensorBoard and the progress bar.

metrics.jsonl holds values that a repeated run gives again; rates and waits go to timing.jsonl.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from recon.errors import UserError
from recon.progress import Progress
from train.metrics import Summary
from train.steps import StepResult

_METRICS, _TIMING = "metrics.jsonl", "timing.jsonl"


class RunLog:
    """The log of one process; only the first rank's writes.

    Args:
        out: the existing directory of the run.
        every: steps between two lines.
        writes: whether this is the first rank.
    """

    def __init__(self, out: Path, *, every: int, writes: bool) -> None:
        self.out, self.every, self.writes = out, every, writes
        self._clear()
        if writes:
            from torch.utils.tensorboard import SummaryWriter

            try:
                self.files: dict[str, TextIO] = {name: (out / name).open("w") for name in (_METRICS, _TIMING)}
                self.board = SummaryWriter(str(out / "tensorboard"))
            except OSError as error:
                raise UserError(f"can't write the log in {out}: {error.strerror or error}") from error

    def _clear(self) -> None:
        self.loss_sum, self.images, self.steps, self.left_out = 0.0, 0, 0, 0
        self.waited_s, self.since = 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        start = time.monotonic()
        yield
        self.waited_s += time.monotonic() - start

    def step(self, result: StepResult, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Adds one step up and writes a line every so many steps."""
        self.steps += 1
        if result.applied:
            self.loss_sum, self.images = self.loss_sum + result.loss_sum, self.images + result.images
        else:
            self.left_out += 1
        if bar:
            bar.update(result.images // 2)
        if step % self.every == 0:
            self.flush(epoch=epoch, step=step, lr=lr, bar=bar)

    def flush(self, *, epoch: int, step: int, lr: float, bar: Progress | None) -> None:
        """Writes the line of the steps since the last one, if there are any: an epoch's end drops none."""
        if not self.steps:
            return
        seconds = max(time.monotonic() - self.since, 1e-9)
        loss = self.loss_sum / self.images if self.images else None
        timing = {"pairs_per_s": self.images / 2 / seconds, "waiting_share": self.waited_s / seconds}
        if self.writes:
            self._line(
                _METRICS,
                {"step": step, "epoch": epoch, "loss": loss, "lr": lr, "left_out": self.left_out},
            )
            self._line(_TIMING, {"step": step, "seconds": seconds} | timing)
            self._scalars(
                {"train/loss": loss, "train/lr": lr} | {f"time/{k}": v for k, v in timing.items()}, step
            )
        if bar:
            shown = "-" if loss is None else f"{loss:.3f}"
            bar.note(f"loss {shown}, waiting for data {timing['waiting_share']:.0%}")
        self._clear()

    def validation(self, summary: Summary, *, epoch: int, step: int) -> None:
        """Writes the figures of a validation."""
        if self.writes:
            self._line(_METRICS, {"step": step, "epoch": epoch, "val": asdict(summary)})
            self._scalars({f"val/{name}": value for name, value in asdict(summary).items()}, step)
        self._clear()

    def _line(self, name: str, values: dict[str, Any]) -> None:
        try:
            self.files[name].write(json.dumps(values, sort_keys=True) + "\n")
            self.files[name].flush()
        except OSError as error:
            raise UserError(
                f"can't write {self.out / name}: {error.strerror}; make room and run again"
            ) from error

    def _scalars(self, values: dict[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Ends the files."""
        if self.writes:
            for file in self.files.values():
                with suppress(OSError):  # of what a full disk kept back; `_line` has said so
                    file.close()
            self.board.close()
