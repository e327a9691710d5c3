"""The attempt loop: the one layer of retries, for every kind of storage, bounded by wall-clock time.

Requests run on daemon threads, because no socket option bounds a whole request: name resolution has no
timeout, and a peer that sends a byte now and then never meets one.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from recon.base.errors import UserError

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_LAST = 20  # an attempt begins while more than this part of the deadline is left
_PROGRESS = 64 << 10  # bytes that make an attempt worth while
_SLOWEST = 64 << 10  # bytes/s at which data still arrive in time
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How long storage is asked again before a request fails."""

    deadline_s: float = 60.0
    """Seconds for one read or one small request, all attempts together."""
    attempts: int = 8
    """Attempts in a row that bring nothing (less than 64 KiB of a read) before the deadline."""

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.attempts >= 1):
            raise UserError(f"expected deadline_s > 0 and attempts >= 1, found {self}")

    @property
    def silence_s(self) -> float:
        """Seconds without a byte after which a connection counts as dead."""
        return min(10.0, self.deadline_s / 6)

    def for_bytes(self, size: int) -> "Retry":
        """The same, with the time that a request which carries `size` bytes may take."""
        return replace(self, deadline_s=max(self.deadline_s, size / _SLOWEST))


class TransientError(Exception):
    """Trouble that may pass. Its text is the cause in words, free of secrets."""


_RANDOM = random.Random()  # of its own: pauses must not move the random numbers of a training run


@dataclass(frozen=True)
class Clock:
    """What the loop takes from the outside world."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float], float] = lambda top: _RANDOM.uniform(0, top)


class Attempts:
    """The attempts of one request, or of the successive requests of one read.

    An attempt ends after a share of the deadline at the latest, so that a connection that trickles is
    given up while there is time for another. An attempt that brought bytes starts the count anew; the
    deadline binds always.

    Args:
        retry: the limits.
        share: an attempt gets this part of the deadline.
        clock: the outside world.
        until: end of the time, by the clock, where a request is a part of more; by default the deadline
            begins now.
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
            attempt: raises TransientError where another attempt makes sense.
            what: heads the error's text, such as "can't read URL".
            progress: bytes received so far by all attempts.

        Raises:
            UserError: the attempts or the time are used up.
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
        return max(0.001, min(self._left_s(), self._retry.deadline_s / self._share))

    def _pause(self, cause: str, what: str, gained: int) -> None:
        self._fruitless = 0 if gained >= _PROGRESS else self._fruitless + 1
        left_s = self._left_s()
        spare_s = left_s - self._retry.deadline_s / _LAST  # the last attempt gets time to tell its own cause
        if self._fruitless >= self._retry.attempts or spare_s <= 0:
            raise UserError(
                f"{what}: {cause}; gave up after {self._made} attempts "
                f"in {self._clock.now() - self._start:.1f} s (deadline {self._retry.deadline_s:g} s, "
                f"{self._retry.attempts} attempts without progress)"
            )
        _LOG.debug("%s: %s; attempt %d follows", what, cause, self._made + 1)
        longest = _FIRST_PAUSE_S * 2.0 ** max(0, self._fruitless - 1)
        self._clock.sleep(self._clock.draw(min(longest, _LONGEST_PAUSE_S, spare_s)))


def bounded(
    call: Callable[[], T], limit_s: float, explain: Callable[[Exception], Exception] = lambda error: error
) -> T:
    """Returns `call()`, run on a daemon thread that is left to itself after `limit_s` seconds.

    What `call` raises is passed through `explain` and raised outside of any `except`, so that the text
    of a foreign exception, which may hold a secret, is in no chain of causes.

    Raises:
        TransientError: the call takes longer.
    """
    outcome: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="storage request", daemon=True).start()
    try:
        value, error = outcome.get(timeout=limit_s)
    except Empty:
        value, error = None, TransientError(f"not done within {limit_s:.1f} s")
    if error is not None:
        raise error if isinstance(error, TransientError | UserError) else explain(error)
    result: T = value
    return result
