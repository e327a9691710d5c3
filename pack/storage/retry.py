"""The attempt loop: the only layer of retries, for every kind of storage, limited by wall-clock time.

Requests run on daemon threads, because no socket option limits the time of a whole request: name resolution
has no timeout, and a server that sends a byte now and then never triggers one.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from recon.base.errors import UnreachableError, UserError

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_LAST = 20  # no attempt begins when less than 1/20 of the deadline is left
_PROGRESS = 64 << 10  # bytes that an attempt must bring to count as progress
_SLOWEST = 64 << 10  # bytes/s; an upload that is slower misses its deadline
_LOG = logging.getLogger(__name__)

SETTLE_S = 2.0
"""Least seconds to wait before looking whether what a store did not guard is still what was just written."""
_SLOWER = 5  # times as long as this process others may take from their look (nothing there) to their write


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often and how long a request is repeated before it fails."""

    deadline_s: float = 60.0
    """Seconds for one read or one small request, for all attempts together."""
    attempts: int = 8
    """Attempts in a row without progress (less than 64 KiB of a read) that end it before the deadline."""

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.attempts >= 1):
            raise UserError(f"expected deadline_s > 0 and attempts >= 1, found {self}")

    @property
    def silence_s(self) -> float:
        """Seconds without a byte after which a connection counts as dead."""
        return min(10.0, self.deadline_s / 6)

    def for_bytes(self, size: int) -> "Retry":
        """A copy whose deadline leaves time to send `size` bytes."""
        return replace(self, deadline_s=max(self.deadline_s, size / _SLOWEST))


def settle(looked: float) -> None:
    """Waits until other processes, which found an object missing when this one did, have written it too.

    Args:
        looked: when this one found it missing, by the clock of `time.monotonic`.
    """
    time.sleep(max(SETTLE_S, _SLOWER * (time.monotonic() - looked)))


class TransientError(Exception):
    """A failure that another attempt may not meet. Its text says the cause, without secrets."""


_RANDOM = random.Random()  # its own generator: pauses must not advance the global one of a training run


@dataclass(frozen=True)
class Clock:
    """The time, the pauses and the random numbers of the loop, which tests replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float], float] = lambda top: _RANDOM.uniform(0, top)


class Attempts:
    """The attempts of one request, or of the successive requests of one read.

    Each attempt gets only a share of the deadline. A connection that trickles is therefore given up while
    there is time for another attempt. An attempt that made progress resets the count of attempts, but not
    the deadline.

    Args:
        retry: the limits.
        share: one attempt gets 1/share of the deadline.
        clock: gives time, pauses and random numbers.
        until: when to give up, by the clock, if the request is a part of a longer operation; by default
            the deadline of `retry`, counted from now.
    """

    def __init__(
        self, retry: Retry, share: int = 4, clock: Clock = Clock(), until: float | None = None
    ) -> None:
        self._retry, self._share, self._clock = retry, share, clock
        self._start = clock.now()
        self._end = self._start + retry.deadline_s if until is None else until
        self._made = self._fruitless = 0

    def run(self, attempt: Callable[[float], T], what: str, progress: Callable[[], int] = lambda: 0) -> T:
        """Calls `attempt` (with the seconds it may take) until it returns.

        Args:
            attempt: raises TransientError if another attempt makes sense.
            what: the start of the error message, such as "can't read URL".
            progress: returns the bytes that all attempts have received so far.

        Raises:
            UnreachableError: too many attempts made no progress, or the time is over.
        """
        while True:
            before = progress()
            self._made += 1
            try:
                return attempt(self._limit_s())
            except TransientError as error:
                cause = str(error)
            self._pause(cause, what, progress() - before)

    def _left_s(self) -> float:
        return self._end - self._clock.now()

    def _limit_s(self) -> float:
        # never below 0, which the queue in `bounded` refuses as a timeout
        return max(0.001, min(self._left_s(), self._retry.deadline_s / self._share))

    def _pause(self, cause: str, what: str, gained: int) -> None:
        self._fruitless = 0 if gained >= _PROGRESS else self._fruitless + 1
        left_s = self._left_s()
        # The last attempt needs time to fail by itself: its own cause says more than "not done within".
        spare_s = left_s - self._retry.deadline_s / _LAST
        if self._fruitless >= self._retry.attempts or spare_s <= 0:
            raise UnreachableError(
                f"{what}: {cause}; gave up after {self._made} attempts "
                f"in {self._clock.now() - self._start:.1f} s (deadline {self._retry.deadline_s:g} s, "
                f"{self._retry.attempts} attempts without progress)"
            )
        _LOG.debug("%s: %s; attempt %d follows", what, cause, self._made + 1)
        longest = _FIRST_PAUSE_S * 2.0 ** max(0, self._fruitless - 1)
        # A random pause: the processes of a run, which fail together, should not all ask again together.
        self._clock.sleep(self._clock.draw(min(longest, _LONGEST_PAUSE_S, spare_s)))


def bounded(
    call: Callable[[], T], limit_s: float, explain: Callable[[Exception], Exception] = lambda error: error
) -> T:
    """Runs `call` on a daemon thread and returns its result; abandons the thread after `limit_s` seconds.

    An exception of `call` is translated by `explain` and raised outside of any `except`. The text of the
    original exception, which may hold a secret, is therefore in no chain of causes.

    Raises:
        TransientError: the call takes longer.
    """
    outcome: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(), None))
        except Exception as error:
            outcome.put((None, error))

    # A new thread, not a pool: abandoned calls may hang for ever and would use up a pool's threads.
    threading.Thread(target=run, name="storage request", daemon=True).start()
    try:
        value, error = outcome.get(timeout=limit_s)
    except Empty:
        value, error = None, TransientError(f"not done within {limit_s:.1f} s")
    if error is not None:
        raise error if isinstance(error, TransientError | UserError) else explain(error)
    result: T = value
    return result
