"""How a scheduler takes its machine back: SIGTERM or SIGUSR1 asks, the run saves itself and ends with 75.

Nothing heavy is imported here, so that a command listens from its first moment on.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What asks a run to end: Kubernetes and Slurm send the first, ``sbatch --signal=USR1@300`` the second."""

NOT_BEGUN = "asked to end before the first step: nothing is lost, start it again"


class StopFlag:
    """Whether this process was asked to end. Nothing sets it before `listen`."""

    def __init__(self) -> None:
        self.is_set = self._listens = False

    def listen(self) -> None:
        """From now on each of `SIGNALS` sets the flag and does nothing else, however often it comes.

        Processes that this one starts afresh don't inherit that: they choose for themselves.
        """
        self._listens = True
        for number in SIGNALS:
            signal.signal(number, self._set)

    @contextmanager
    def deadly(self) -> Iterator[None]:
        """Within, each of `SIGNALS` ends the process at once.

        For the wait for other ranks to join: no flag could end it if one of them has ended instead, and
        there is nothing to save yet.

        Raises:
            Preempted: the process was asked to end before.
        """
        if self._listens:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        if self.is_set:
            raise Preempted(NOT_BEGUN)
        yield
        if self._listens:
            self.listen()

    def ignore(self) -> None:
        """From now on `SIGNALS` do nothing, not even in the interpreter's last moments."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


class Preempted(Exception):
    """All ranks leave at the same step because one was asked to; its text says what was saved."""
