"""Progress of a long job: a bar on a terminal, otherwise a line in the log every 10 s."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

Item = TypeVar("Item")

_LOG = logging.getLogger(__name__)
_LOG_EVERY_S = 10.0


class Progress:
    """Counts units of work, shown with rate and time left; a context manager.

    On a terminal (standard error) it is a tqdm bar; elsewhere it logs a line at most every
    10 s, and one at the end.
    """

    def __init__(self, *, total: int | None, unit: str, what: str) -> None:
        """Starts at zero.

        Args:
            total: number of units of the whole job; None if it isn't known.
            unit: what is counted, in the plural: ``images``.
            what: the job, the first word of the line: ``reconstruct``.
        """
        self._total, self._unit, self._what = total, unit, what
        self._done, self._skipped, self._told, self._note = 0, 0, 0, ""
        self._started = self._logged = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # only where a bar is shown: most processes write to a log

            self._bar = tqdm(total=total, unit=f" {unit}", desc=what, file=sys.stderr, dynamic_ncols=True)

    def update(self, count: int = 1) -> None:
        """Counts `count` more units."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._logged >= _LOG_EVERY_S:
            self._log()

    def skip(self, count: int) -> None:
        """Counts `count` units that an earlier run has done; the rate leaves them out."""
        self._done += count
        self._skipped += count
        if self._bar is not None:
            # tqdm leaves what is in `initial` out of its rate; `update` would count the units in.
            self._bar.initial += count
            self._bar.last_print_n += count
            self._bar.n += count
            self._bar.refresh()

    def note(self, text: str) -> None:
        """Shows `text`, e.g. the loss, after the counts from now on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the bar, or logs the last line."""
        if self._bar is not None:
            self._bar.close()
        elif self._done != self._told or not self._done:  # not a second time the line that `update` logged
            self._log()

    def _log(self) -> None:
        self._logged, self._told = time.monotonic(), self._done
        # The clock may stand still between two calls, hence 1e-9.
        rate = (self._done - self._skipped) / max(self._logged - self._started, 1e-9)
        total = "" if self._total is None else f"/{self._total}"
        parts = [f"{self._what}: {self._done}{total} {self._unit}", f"{rate:.3g} {self._unit}/s"]
        if self._total is not None and rate and self._done < self._total:
            parts.append(f"{clock((self._total - self._done) / rate)} left")
        _LOG.info(", ".join([*parts, self._note] if self._note else parts))


def progress(iterable: Iterable[Item], *, total: int | None, unit: str, what: str) -> Iterator[Item]:
    """Yields the items of `iterable`; counts an item when the caller asks for the next one.

    Args:
        iterable: the work.
        total: its length; None if it isn't known.
        unit: what is counted, in the plural: ``images``.
        what: the job, the first word of the line: ``reconstruct``.
    """
    with Progress(total=total, unit=unit, what=what) as shown:
        for item in iterable:
            yield item
            shown.update()


def counted(number: int, noun: str) -> str:
    """Joins a number and its noun, e.g. ``1 pair`` and ``2 pairs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """Formats a duration as ``M:SS`` or ``H:MM:SS``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
