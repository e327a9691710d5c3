"""Checks of numeric options that configs of all commands share."""

from recon.base.errors import UserError

MAX_THREADS = 1024
"""Of one process: more is a mistake."""


def at_least_one(config: object, *names: str, group: str = "") -> None:
    """Checks numeric options; None stands for an option that was not given.

    Raises:
        UserError: one of them is below 1.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{group}{name}={value}, expected at least 1")
