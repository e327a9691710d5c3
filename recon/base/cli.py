"""One grammar for every command: a config dataclass in, options, YAML and ``--help`` out.

Only jsonargparse is imported here, so that ``--help`` answers at once; a job imports
its heavy libraries when it runs.
"""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from recon.base.errors import UserError

Config = TypeVar("Config")

_BOOLEANS = {"true", "false", "yes", "no", "on", "off", "0", "1"}  # meant for one; numbers are refused
_UNKNOWN_OPTION = re.compile(r"Group '([\w.]+)' does not accept option|unrecognized arguments: --([\w.]+)\.")


def parse(
    config: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    about: str,
    recipes: Mapping[str, Path] | None = None,
) -> Config:
    """Builds `config` from command line options and an optional ``--config FILE.yaml``.

    Args:
        config: a dataclass; each field becomes an option, its docstring line the help. A field
            with ``field(kw_only=False)`` becomes a positional argument, one of ``list[str]`` takes several.
        argv: the arguments, by default those of the process. Dashes may stand for the underscores of an
            option's name, and a boolean option without a value for true.
        prog: the command as the user types it, e.g. ``python -m pack``.
        about: the text above the options in ``--help``.
        recipes: the folder of a group's recipes: ``{"augment": folder}`` makes ``--augment NAME``, and
            ``augment: NAME`` in a YAML file, take the options of ``folder/NAME.yaml``.

    Returns:
        The validated config. A mistake ends the process with status 2 and one line.
    """
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        """Keeps the lines of `about`."""

    class Parser(ArgumentParser):
        """Says what is wrong in one line."""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # noqa: ARG002
            fail(f"{' '.join(message.split())}{_choices(self, message)}; see {prog} --help")

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=prog, description=about, formatter_class=Formatter, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these options.")
    parser.add_class_arguments(config, as_group=False, as_positional=True)
    _take_several(parser)
    for group, folder in (recipes or {}).items():
        _name_recipes(parser, group, folder)
    words = _spelled_out(sys.argv[1:] if argv is None else argv, dict(_options(config)))
    parsed = parser.instantiate(parser.parse_args(words))
    return config(**{name: value for name, value in vars(parsed).items() if name != "config"})


def _options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and type of each option, those of groups included."""
    types = get_type_hints(config)
    for one in fields(config):
        kind = types[one.name]
        yield f"{prefix}{one.name}", kind
        if is_dataclass(kind):
            yield from _options(kind, f"{prefix}{one.name}.")


def _spelled_out(words: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The arguments as the parser takes them: underscores in names, and a value for each boolean."""
    found: list[str] = []
    known = {"config", "print_config", *options}
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        name, equals, value = word.partition("=")
        named = name[2:].replace("-", "_") if name.startswith("--") else ""
        if named in known:
            word = f"--{named}{equals}{value}"
        following = words[number + 1].lower() if number + 1 < len(words) else ""
        is_bare = options.get(named) is bool and not equals and following not in _BOOLEANS
        found.append(f"{word}=true" if is_bare else word)
    return found


def _choices(parser: Any, message: str) -> str:
    """The options of the group that was asked for one that it has not."""
    found = _UNKNOWN_OPTION.search(message)
    prefix = f"{found[1] or found[2]}." if found else ""
    names = [action.dest.removeprefix(prefix) for action in parser._actions if action.dest.startswith(prefix)]
    return f", expected one of {', '.join(names)}" if found and names else ""


def _take_several(parser: Any) -> None:
    """Lets a positional list be given as words, not as one text ``[a, b]``."""
    for action in parser._actions:
        if not action.option_strings and getattr(action, "_typehint", None) == list[str]:
            action.nargs, action._typehint, action.metavar = "+", str, action.dest


def _name_recipes(parser: Any, group: str, folder: Path) -> None:
    """Lets the option of a whole group, which takes the path of a YAML file, take a recipe's name too."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    action = next(action for action in parser._actions if action.dest == group)
    load = action._load_config  # the one way of both the command line's and a YAML file's value

    def load_named(value: Any, *rest: Any) -> Any:
        try:
            return load(str(folder / f"{value}.yaml") if value in names else value, *rest)
        except TypeError as error:
            if f'Unable to load config "{value}"' not in str(error):
                raise
            fail(f"{group}={value}: expected {', '.join(names)}, or a YAML file with options of {group}")

    action._load_config = load_named
    action.metavar = "RECIPE"
    action.help = f"{', '.join(names)}, or a YAML file; options after it change single fields."


def run(
    config: type[Config],
    job: Callable[[Config], int | None],
    argv: Sequence[str] | None = None,
    **parser: Any,
) -> NoReturn:
    """Parses the command line, runs the job and exits with its status.

    Args:
        config: the dataclass of the command's options.
        job: the command; returns its exit status, None for 0.
        argv: the arguments, by default those of the process.
        **parser: `prog`, `about` and `recipes` of `parse`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    ignore_odd_metadata()
    try:
        status = job(parse(config, argv, **parser))
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status or 0)


def ignore_odd_metadata() -> None:
    """Silences Pillow's warnings, which say nothing about pixels, in a process of our own from its start.

    Not around each decoding: `warnings.catch_warnings` is not thread-safe, and left every warning of the
    process ignored after 8 threads' work. Not on import: the filters of a user's process are the user's.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def fail(message: str, *, status: int = 2) -> NoReturn:
    """Prints ``error: message`` on standard error and exits with `status`."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(status)
