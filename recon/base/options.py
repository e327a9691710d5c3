"""Checks of options that the configs of all commands share."""

from dataclasses import MISSING, fields
from typing import Any

from recon.base.errors import UserError

MAX_THREADS = 1024
"""Largest number of threads that one process accepts; a larger one is surely a mistake."""


def at_least_one(config: object, *names: str, group: str = "") -> None:
    """Checks numeric options; None stands for an option that was not given.

    Raises:
        UserError: one of them is below 1.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{group}{name}={value}, expected at least 1")


def not_negative(config: object, *names: str, group: str = "") -> None:
    """Checks numeric options.

    Raises:
        UserError: one of them is below 0, or no number.
    """
    for name in names:
        value = getattr(config, name)
        if not value >= 0:  # neither is NaN
            raise UserError(f"{group}{name}={value}, expected 0 or more")


def refuse_idle(config: Any, *names: str, because: str, group: str = "") -> None:
    """Refuses options that were changed but would have no effect.

    Args:
        config: a dataclass.
        names: its fields, each with a default.
        because: why they would be ignored, e.g. ``there is no data.val``.
        group: the prefix of their names on the command line.

    Raises:
        UserError: one of the options has another value than its default.
    """
    options = {one.name: one for one in fields(config)}
    for name in names:
        value, make = getattr(config, name), options[name].default_factory
        if value != (options[name].default if make is MISSING else make()):
            raise UserError(f"{group}{name}={value} would be ignored: {because}; leave it out")
