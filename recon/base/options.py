"""Checks of options that the configs of all commands share."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import expanded, is_special, printable

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


def refuse_places(options: object) -> None:
    """Refuses places that no command can use, whichever option names them.

    These are fsspec's files in memory, which end with the command, and which its workers never see; and
    pipes, sockets and devices, which can't be read twice, or in parts.

    Args:
        options: the config of a command.

    Raises:
        UserError: an option names such a place.
    """
    if found := re.search(r"memory://[^\s'\"]*", repr(options)):
        raise UserError(
            f"{found[0]} lasts only as long as this process; give a directory, s3://BUCKET/PREFIX or the URL "
            "of another storage"
        )
    for name, text in _texts(options):
        refuse_special(text, f"{name}={printable(text)}")


def refuse_special(place: str, shown: str) -> None:
    """Refuses a pipe, a socket or a device; whatever else is wrong with a place is for the command to tell.

    Raises:
        UserError: it begins with `shown`.
    """
    found = False
    with suppress(UserError):
        found = is_special(expanded(place.removeprefix("file://")))
    if found:
        raise UserError(f"{shown} is a pipe, a socket or a device, expected a file or folder")


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields each text among options with the name of its option."""
    if isinstance(value, str):
        yield name, value
    elif is_dataclass(value):
        for one in fields(value):
            yield from _texts(getattr(value, one.name), f"{name}.{one.name}".lstrip("."))
    elif isinstance(value, list | tuple | dict):
        for item in [*value, *(value.values() if isinstance(value, dict) else ())]:
            yield from _texts(item, name)
