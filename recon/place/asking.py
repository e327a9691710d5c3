"""Asks for something again, each second, until a node's time for meeting the others is over."""

import sys
import time

from recon.base.errors import PeerError

_LOOK_S = 5.0


class Asking:
    """One question, with its deadline.

    Args:
        limit_s: seconds from now on.
    """

    def __init__(self, limit_s: int) -> None:
        self._limit_s, self._deadline = limit_s, time.monotonic() + limit_s
        self._is_told = False

    @property
    def look_s(self) -> float:
        """How long one attempt may take, in seconds."""
        return max(0.1, min(_LOOK_S, self._deadline - time.monotonic()))

    def wait(self, what: str, why: str, cure: str, *, is_usual: bool = False) -> None:
        """Waits for the next attempt; before the first one, says what is not as expected yet.

        Args:
            what: is not as expected.
            why: the last attempt failed.
            cure: what to do if it stays so.
            is_usual: nothing needs to be said while it may still change.

        Raises:
            PeerError: the time is over.
        """
        if time.monotonic() > self._deadline:
            raise PeerError(f"{what} after {self._limit_s} s ({why}); {cure}")
        if not (self._is_told or is_usual):
            sys.stderr.write(f"{what} yet ({why}), asking for {self._limit_s} s\n")
        self._is_told = True
        time.sleep(1)
