"""What the parser of options complains about, in words for people who know neither it nor Python's types."""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from recon.base.paths import is_file, is_special, printable

_WRONG_TYPE = re.compile(r'Parser key "(?P<name>[\w.]+)": .*?(?:Given|Got) value: (?P<value>.*)')
_NO_FILE = re.compile(r"""Parser key "(?P<name>[\w.]+)": File does not exist: '(?P<value>.*)'""")
_NO_REGULAR_FILE = re.compile(r"""Parser key "(?P<name>[\w.]+)": Path is not a file: '(?P<value>.*)'""")
_UNKNOWN = re.compile(r"unrecognized arguments: --(?P<name>[\w.-]+)")
_UNKNOWN_IN_GROUP = re.compile(
    r"Group '([\w.]+)' does not accept option|unrecognized arguments: --([\w.]+)\."
)
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def in_plain_words(message: str, options: Mapping[str, Any]) -> str:
    """Rewrites a complaint of jsonargparse; one that is plain already stays, with the choices there are.

    Args:
        message: in one line.
        options: the type of each option by name; those of groups have the group's name and a dot before.
    """
    if found := _NO_FILE.search(message):
        return f"{found['name']}={found['value']}: no such file"
    if found := _NO_REGULAR_FILE.search(message):
        return f"{found['name']}={found['value']} is no file, expected a YAML file"
    values = {name: kind for name, kind in options.items() if not is_dataclass(kind)}
    found = _WRONG_TYPE.search(message)
    if found and found["name"] in values:
        return f"{found['name']}={found['value']}, expected {_kind(values[found['name']])}"
    return message + (_of_group(message, options) or _meant(message, options))


def complaint_of_file(name: str, value: str) -> str | None:
    """Why a file of options can't be read, as far as that shows before it is opened; None if it may be.

    A pipe is refused, because reading would wait until another process writes into it. Those that a shell
    makes for ``<(command)`` lie in /dev or /proc, and have a writer.

    Args:
        name: of the option.
        value: the path of a YAML file, or what else the option takes.

    Raises:
        UserError: the file system doesn't answer.
    """
    if value == "-" or value.startswith(("/dev/", "/proc/")):
        return None
    if is_special(value):
        return f"{name}={printable(value)} is a pipe, a socket or a device, expected a YAML file"
    # A name that is no Unicode can't be YAML either, as which the parser would take it.
    if printable(value) != value and not is_file(value):
        return f"{name}={printable(value)}: no such file"
    return None


def _kind(hint: Any) -> str:
    """What a type accepts."""
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind(one) for one in get_args(hint) if one is not NoneType)
    return _KINDS.get(hint, str(hint))


def _of_group(message: str, options: Mapping[str, Any]) -> str:
    """If a group has no such option: those that it has."""
    found = _UNKNOWN_IN_GROUP.search(message)
    prefix = f"{found[1] or found[2]}." if found else "."
    names = [name.removeprefix(prefix) for name in options if name.startswith(prefix)]
    return f", expected one of {', '.join(names)}" if names else ""


def _meant(message: str, options: Mapping[str, Any]) -> str:
    """The option whose name is most like one that there is not."""
    found = _UNKNOWN.search(message)
    if found and found["name"] in options:  # a positional argument, or argparse would know it
        return f"; give {found['name'].upper()} without --{found['name']}"
    close = get_close_matches(found["name"].replace("-", "_"), options, n=1, cutoff=0.7) if found else []
    return f"; perhaps --{close[0]}" if close else ""
