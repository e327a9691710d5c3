"""Preemption: after SIGTERM or SIGUSR1 the run saves a checkpoint and ends with status 75.

This file imports nothing heavy, so that a command can handle these signals as soon as it starts.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask a run to end: Kubernetes and Slurm send SIGTERM, ``sbatch --signal=USR1@300`` SIGUSR1."""

NOT_BEGUN = "asked to end before the first step: nothing is lost, start it again"


class StopFlag:
    """Tells whether this process was asked to end; it can't be set before `listen` was called."""

    def __init__(self) -> None:
        self.is_set = self._listens = False

    def listen(self) -> None:
        """From now on each of `SIGNALS` sets the flag and does nothing else, also when it comes again.

        Child processes do not inherit this handler, unless they are forked without exec.
        """
        self._listens = True
        for number in SIGNALS:
            signal.signal(number, self._set)

    @contextmanager
    def deadly(self) -> Iterator[None]:
        """Context manager: inside, each of `SIGNALS` ends the process at once.

        Used while the ranks join. If one of them has already ended, the others wait in torch, where a flag
        would not stop them; and there is nothing to save yet.

        Raises:
            Preempted: the process was asked to end before.
        """
        if self._listens:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        # Checked after the reset: an earlier signal is seen here, and a later one ends the process.
        if self.is_set:
            raise Preempted(NOT_BEGUN)
        yield
        if self._listens:
            self.listen()

    def ignore(self) -> None:
        """From now on `SIGNALS` do nothing, also while the interpreter shuts down."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


class Preempted(Exception):
    """All ranks end after the same step because one was asked to end; the message says what was saved."""
