"""The command line of every command: a config dataclass becomes options, a YAML file and ``--help``.

jsonargparse is the only library imported here, because ``--help`` must answer at once. A job imports
its heavy libraries when it runs.
"""

import errno
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from recon.base.complaints import complaint_of_file, in_plain_words
from recon.base.errors import PeerError, UnreachableError, UserError
from recon.base.options import refuse_places
from recon.base.paths import forget_output, open_closed_streams, print_any_text, printable
from recon.launcher.launcher import attach, leave_at_once, told_launcher

Config = TypeVar("Config")

# Words taken as the value of a boolean option before them. The parser then refuses 0 and 1.
_BOOLEANS = {"true", "false", "yes", "no", "on", "off", "0", "1"}


def parse(
    config: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    about: str,
    recipes: Mapping[str, Path] | None = None,
    shows: Mapping[str, tuple[Callable[[], str], str]] | None = None,
) -> Config:
    """Builds `config` from command line options and an optional ``--config FILE.yaml``.

    Args:
        config: a dataclass; each field becomes an option, its docstring line the help. A field
            with ``field(kw_only=False)`` becomes a positional argument, one of ``list[str]`` takes several.
        argv: the arguments, by default those of the process. An option's name may have dashes instead of
            underscores; a boolean option without a value is true.
        prog: the command as the user types it, e.g. ``python -m pack``.
        about: the text above the options in ``--help``.
        recipes: the folder of a group's recipes. With ``{"augment": folder}``, ``--augment NAME`` (in a
            YAML file ``augment: NAME``) loads the options in ``folder/NAME.yaml``; in a YAML file
            ``augment: {recipe: NAME, field: value}`` changes single fields of it.
        shows: options that only print a text, by name: what makes the text, and the help.

    Returns:
        The validated config. A mistake ends the process with status 2 and one line.
    """
    from jsonargparse import set_parsing_settings

    options = dict(_options(config))
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _parser(prog, about, options, recipes or {})
    parser.add_class_arguments(config, as_group=False, as_positional=True)
    for name, (make, help_text) in (shows or {}).items():
        parser.add_argument(f"--{name}", action=_printing(make), nargs=0, help=help_text)
    _take_several(parser)
    for group, folder in (recipes or {}).items():
        _name_recipes(parser, group, folder)
    # jsonargparse knows neither dashes for underscores nor a boolean without a value.
    words = _spelled_out(sys.argv[1:] if argv is None else argv, options)
    for name, value in _files(words, options):
        if complaint := complaint_of_file(name, value):
            fail(complaint)
    with _files_of_options():
        # `instantiate` builds the groups; `config` itself is built below.
        parsed = parser.instantiate(parser.parse_args(words))
    return config(**{name: value for name, value in vars(parsed).items() if name != "config"})


def _parser(prog: str, about: str, options: Mapping[str, Any], recipes: Mapping[str, Path]) -> Any:
    """A parser with ``--config`` alone; the arguments are those of `parse`, the options their types."""
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        """Keeps the line breaks of `about`."""

    class Parser(ArgumentParser):
        """Prints a mistake in one line."""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # noqa: ARG002
            fail(f"{in_plain_words(' '.join(message.split()), options)}; see {prog} --help")

        def _print_message(self, message: str, file: Any = None) -> None:
            """Prints it, or fails; argparse passes over what can't be printed."""
            (file or sys.stderr).write(message)

        def _apply_actions(self, cfg: Any, *rest: Any, **more: Any) -> Any:
            """Takes what a YAML file holds."""
            for group in recipes if isinstance(cfg, dict) else ():
                _refuse_dotted(cfg, group)
            return super()._apply_actions(cfg, *rest, **more)

    parser = Parser(prog=prog, description=about, formatter_class=Formatter, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these options.")
    return parser


def _printing(make: Callable[[], str]) -> Any:
    """Returns the action of an option that prints a text and ends the process."""
    from argparse import SUPPRESS, Action

    class Print(Action):
        def __init__(self, option_strings: Sequence[str], **rest: Any) -> None:
            # Not a value of the config, so it must not appear in --print_config or in a YAML file.
            super().__init__(option_strings, **{**rest, "dest": SUPPRESS, "default": SUPPRESS})

        def __call__(self, *_: Any) -> None:
            sys.stdout.write(f"{make()}\n")
            sys.exit()

    return Print


def _options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields name and type of each option, including the options of groups."""
    types = get_type_hints(config)
    for one in fields(config):
        kind = types[one.name]
        yield f"{prefix}{one.name}", kind
        if is_dataclass(kind):
            yield from _options(kind, f"{prefix}{one.name}.")


def _spelled_out(words: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Rewrites the arguments for the parser: underscores in names, and a value for each boolean."""
    found: list[str] = []
    known = {"config", "print_config", *options}
    for number, word in enumerate(words):
        if word == "--":  # after it, words are values even if they look like options
            return [*found, *words[number:]]
        name, equals, value = word.partition("=")
        named = name[2:].replace("-", "_") if name.startswith("--") else ""
        if named in known:  # other words stay as typed, so that the parser's error shows them unchanged
            word = f"--{named}{equals}{value}"
        following = words[number + 1].lower() if number + 1 < len(words) else ""
        is_bare = options.get(named) is bool and not equals and following not in _BOOLEANS
        found.append(f"{word}=true" if is_bare else word)
    return found


def _files(words: Sequence[str], options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields name and value of each option that names a YAML file: ``--config``, and a whole group."""
    named = {
        f"--{name}": name for name in ("config", *options) if name == "config" or is_dataclass(options[name])
    }
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in named and (equals or number + 1 < len(words)):
            yield named[option], value if equals else words[number + 1]


@contextmanager
def _files_of_options() -> Iterator[None]:
    """Words what the parser raises where a YAML file is there, and can't be read."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # of the output
            raise
        fail(f"can't read {printable(str(error.filename))}: {error.strerror}; check its permissions")
    except UnicodeDecodeError as error:
        what = f"{error.reason} at byte {error.start}"
        fail(f"a YAML file of the options is not UTF-8 ({what}); save it as UTF-8")


def _take_several(parser: Any) -> None:
    """Lets a positional list be given as separate words instead of one text ``[a, b]``."""
    for action in parser._actions:
        if not action.option_strings and getattr(action, "_typehint", None) == list[str]:
            action.nargs, action._typehint, action.metavar = "+", str, action.dest


def _refuse_dotted(content: Mapping[str, Any], group: str) -> None:
    """Refuses a name and dotted fields side by side, of which the parser would forget the name."""
    dotted = next((key for key in content if key.startswith(f"{group}.")), None)
    if dotted and isinstance(name := content.get(group), str):
        field = dotted.removeprefix(f"{group}.")
        fail(f"{group} and {dotted} in one file: write {group}: {{recipe: {name}, {field}: ...}}")


def _name_recipes(parser: Any, group: str, folder: Path) -> None:
    """Lets the option of a whole group take a recipe's name as well as the path of a YAML file.

    A group of a YAML file has the recipe's name as its field ``recipe``, and other fields change the recipe.
    """
    from jsonargparse import Namespace

    names = sorted(path.stem for path in folder.glob("*.yaml"))
    action = next(action for action in parser._actions if action.dest == group)
    # The command line's value and a YAML file's value both pass this private method of jsonargparse.
    load, resolve = action._load_config, action.resolve_subclass_spec

    def load_named(value: Any, *rest: Any) -> Any:
        try:
            return load(str(folder / f"{value}.yaml") if value in names else value, *rest)
        except TypeError as error:
            # jsonargparse's text for a wrong name lists no recipes; its other errors say enough.
            if f'Unable to load config "{value}"' not in str(error):
                raise
            fail(f"{group}={value}: expected {', '.join(names)}, or a YAML file with options of {group}")

    def with_recipe(value: Any) -> Any:
        # jsonargparse shows this private method each group of a YAML file before it looks at the fields.
        if not isinstance(value, dict | Namespace) or "recipe" not in value:
            return resolve(value)
        fields = dict(vars(value) if isinstance(value, Namespace) else value)
        found = load_named(str(fields.pop("recipe")), parser)
        for name, field in fields.items():
            found[name] = field
        return found

    action._load_config, action.resolve_subclass_spec = load_named, with_recipe
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
        **parser: `prog`, `about`, `recipes` and `shows` of `parse`.
    """
    open_closed_streams()
    print_any_text(sys.stdout, sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    ignore_odd_metadata()
    before = signal.getsignal(signal.SIGINT)
    try:
        attach()
        status = _done(config, job, argv, **parser)
        sys.stdout.flush()  # else a full disk would be met when the interpreter ends
    except UserError as error:
        if isinstance(error, UnreachableError):  # Python would wait for threads whose requests still hang
            leave_at_once(str(error), error.status)
        fail(str(error), status=error.status)
    except PeerError as error:
        fail(str(error), status=os.EX_UNAVAILABLE)
    except KeyboardInterrupt:
        logging.disable()  # torch has its say at the end if its import was interrupted
        fail("interrupted", status=130)  # 128 + SIGINT, as a shell counts it
    except BrokenPipeError:  # the reader of our output ended, as in `... | head`
        forget_output()
        status = 141  # 128 + SIGPIPE
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        forget_output()
        fail("can't print: no space left where standard output goes")
    finally:  # nothing is left to interrupt but the interpreter's own end, which would print a traceback
        signal.signal(signal.SIGINT, before)
    sys.exit(status or 0)


def _done(config: Any, job: Any, argv: Sequence[str] | None, **parser: Any) -> Any:
    """Parses and runs; the status also where --help and its like have ended the process."""
    try:
        options = parse(config, argv, **parser)
        refuse_places(options)
        return job(options)
    except SystemExit as end:
        return end.code


def ignore_odd_metadata() -> None:
    """Silences Pillow's warnings, which are about metadata; called when a process of ours starts.

    It is not done around each decoding, because `warnings.catch_warnings` is not thread-safe: after 8 threads
    had used it, the process ignored all warnings. It is not done on import, because a process that only
    imports this package has warning filters of its own.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def fail(message: str, *, status: int = 2) -> NoReturn:
    """Prints ``error: message`` on standard error, or has the launcher print it; exits with `status`."""
    if not told_launcher(message):
        sys.stderr.write(f"error: {message}\n")
    sys.exit(status)
