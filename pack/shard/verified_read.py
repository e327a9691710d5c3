"""Telling damage at rest from damage on the way.

A passing fault gives other bytes at the next reading; what lies damaged comes the same each time.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from recon.base.errors import UserError

Data = TypeVar("Data", bytes, memoryview)

_SAME = 3  # readings in a row that settle it
_MOST = 12


def read_verified(
    read: Callable[[float], Data],
    is_sound: Callable[[Data], bool],
    what: str,
    until: float,
) -> tuple[Data, bool]:
    """Reads until the bytes are sound, or until they came the same and unsound three times in a row.

    Args:
        read: reads once, given `until`.
        is_sound: checks what was read.
        what: is read, for the message.
        until: time of `time.monotonic` by which it must be settled, all readings together.

    Returns:
        The bytes, and whether they are sound.

    Raises:
        UserError: other unsound bytes came again and again, or the time is over: the storage or the way to
            it is failing.
    """
    before: Data | None = None
    same = 0
    for _ in range(_MOST):
        data = read(until)
        if is_sound(data):
            return data, True
        same = same + 1 if data == before else 1
        if same == _SAME:
            return data, False
        if time.monotonic() >= until:
            break
        before = data
    raise UserError(
        f"{what}: its readings gave wrong bytes, and not the same ones; "
        "the storage or the network between is failing, check them and resume"
    )
