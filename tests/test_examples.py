"""Every command line that is shown to a user is one that the command takes."""

import re
import runpy
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_layout import COMMANDS

from recon.base import cli

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "torchrun.sh": "train",
    "pack.sh": "pack",
    "slurm/pack.sbatch": "pack",
    "slurm/train.sbatch": "train",
}
ELLIPSIS = {  # what "..." stands for
    "train": ["--out=runs/one", "--data.train=data/train"],
    "train.evaluate": ["--checkpoint=best.pt", "--data=data/test"],
    "train.robustness": ["--checkpoint=best.pt", "--data=data/test"],
    "pack": ["--source=photos", "--out=data/mine"],
}
EXAMPLE = re.compile(r"(?:[A-Z_]+=\S+ )*(?:sbatch .*launch/|launch/|python -m |torchrun .* -m )\S.*")
READ_FROM = [
    *sorted(ROOT.glob("configs/**/*.yaml")),
    *sorted(ROOT.glob("launch/**/*.s*")),
    ROOT / "launch/README.md",
    ROOT / "README.md",
]


class Parsed(Exception):
    """A command has taken its options and would begin."""


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(command: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs a command up to where its options are known; returns what it gives the parser."""
    given: dict[str, Any] = {}
    parse = cli.parse

    def stop(config: type, argv: Sequence[str] | None = None, **more: Any) -> None:
        given.update(more)
        parse(config, argv, **more)
        raise Parsed

    monkeypatch.setattr(cli, "parse", stop)
    monkeypatch.setattr(sys, "argv", [command, *words])
    with pytest.raises(Parsed):
        run_afresh(command)
    return given


def run_afresh(command: str) -> None:
    """Runs a command as ``python -m`` does; runpy warns of one that a test has imported before."""
    sys.modules.pop(f"{command}.__main__", None)
    if "." in command:  # a command of one file, or a folder that holds nothing but the command
        sys.modules.pop(command, None)
    runpy.run_module(command, run_name="__main__")


def examples(text: str) -> list[str]:
    """Command lines in a text, without what is said beside them."""
    joined = re.sub(r" *\\\n#? *", " ", text)
    lines = [re.sub(r"^[\s#]+", "", line) for line in joined.splitlines()]
    return [re.split(r" {2,}| # ", line)[0] for line in lines if EXAMPLE.fullmatch(line)]


def taken_apart(line: str) -> tuple[str, list[str]] | None:
    """The command of an example and its options; None where a script takes none of a command's."""
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    if "-m" in words:
        begin = words.index("-m") + 1
        command = words[begin]
    else:
        begin = next(number for number, word in enumerate(words) if word.startswith("launch/"))
        found = SCRIPTS.get(words[begin].removeprefix("launch/"))
        if found is None:
            return None
        command = found
    options = words[begin + 1 :]
    return command, [one for word in options for one in (ELLIPSIS[command] if word == "..." else [word])]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_command_s_help_are_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    about = ""

    def remember(*_: object, **more: Any) -> None:
        nonlocal about
        about = more["about"]
        raise Parsed

    with monkeypatch.context() as patched:
        patched.setattr(cli, "parse", remember)
        with pytest.raises(Parsed):
            run_afresh(command)
    shown = [taken_apart(line) for line in examples(about)]
    assert [each for each in shown if each and each[0] == command], f"{command} --help shows no example"
    for each in shown:
        assert each
        with monkeypatch.context() as patched:
            start(each[0], each[1], patched)


@pytest.mark.parametrize("path", READ_FROM, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_in_configs_launchers_and_the_readme_are_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shown = examples(path.read_text("utf-8"))
    assert shown
    for line in shown:
        each = taken_apart(line)
        assert each or "demo.sh" in line, line
        if each:
            with monkeypatch.context() as patched:
                start(each[0], each[1], patched)


def test_examples_are_found_as_they_are_written() -> None:
    text = (
        "# A line on python -m train that is no example.\n"
        "#   sbatch --array=0-3 launch/slurm/pack.sbatch \\\n#     --source a --out 'b c'\n"
        "    N=2 launch/torchrun.sh --config x.yaml ...    (as ever)\n"
        "torchrun --nproc-per-node 2 -m train --out 'a b'   # beside\n"
    )
    assert [taken_apart(line) for line in examples(text)] == [
        ("pack", ["--source", "a", "--out", "b c"]),
        ("train", ["--config", "x.yaml", *ELLIPSIS["train"]]),
        ("train", ["--out", "a b"]),
    ]
