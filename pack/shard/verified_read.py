"""Distinguishes bytes that are damaged in storage from bytes that were damaged on their way.

Damage on the way gives other bytes at the next read; damage in storage gives the same bytes each time.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from recon.base.errors import UserError

Data = TypeVar("Data")

_SAME = 3  # equal reads in a row that prove damage in storage
_MOST = 12  # reads


def read_verified(
    read: Callable[[float], Data],
    is_sound: Callable[[Data], bool],
    what: str,
    until: float,
) -> tuple[Data, bool]:
    """Reads until the bytes are sound, or until the same unsound bytes came three times in a row.

    Args:
        read: reads once; gets `until`.
        is_sound: checks what a read gave; of equal bytes all reads give equal things.
        what: name of the object or range, for the message.
        until: deadline for all reads together, by the clock of `time.monotonic`.

    Returns:
        What was read, and whether it is sound.

    Raises:
        UserError: different unsound bytes came again and again, or the time is over: the storage or the
            network is failing.
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
            raise UserError(
                f"{what}: every read before the deadline gave wrong bytes; raise data.deadline_s, or run "
                "python -m pack.verify to see whether the storage holds them so"
            )
        before = data
    raise UserError(
        f"{what}: repeated reads gave wrong bytes, and not the same ones; "
        "the storage or the network is failing, check both and resume"
    )
