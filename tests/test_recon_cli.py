"""The one grammar of all commands: how options may be typed, and what the parser must have for that."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import photograph, save

import recon
from recon.base.cli import parse, run
from recon.base.errors import UnreachableError, UserError


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group."""

    pad: bool = True
    """Pads."""
    jpeg_p: float = 0.5
    """A share."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command."""

    urls: list[str] = field(kw_only=False)
    """Words."""
    dry_run: bool = False
    """Shows."""
    source: str = ""
    """A text."""
    group_by: str | None = None
    """Another."""
    count: int | Literal["all"] = 1
    """A number."""
    codec: Literal["png", "webp"] = "png"
    """A choice."""
    augment: Group = field(default_factory=Group)
    """A group."""


def parsed(*words: str) -> Command:
    return parse(Command, words, prog="x", about="")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["u", "--dry_run"], {"dry_run": True}),
        (["u", "--dry-run"], {"dry_run": True}),
        (["u", "--dry_run", "true"], {"dry_run": True}),
        (["u", "--dry_run=true"], {"dry_run": True}),
        (["u", "--dry-run=true"], {"dry_run": True}),
        (["u", "--dry_run", "false"], {}),
        (["u", "--dry-run", "False"], {}),
        (["u", "--dry-run=false"], {}),
        (["--dry_run", "u"], {"dry_run": True}),
        (["--dry-run", "--source", "a", "u"], {"dry_run": True, "source": "a"}),
        (["--dry_run", "--", "u"], {"dry_run": True}),
        (["u", "--augment.pad"], {}),
        (["u", "--augment.pad", "false"], {"augment": Group(pad=False)}),
        (["u", "--augment.jpeg-p", "0.25"], {"augment": Group(jpeg_p=0.25)}),
        (["u", "--augment.jpeg-p=0.25", "--augment.pad=no"], {"augment": Group(jpeg_p=0.25, pad=False)}),
        (["u", "--source", "dry-run"], {"source": "dry-run"}),
        (["u", "--source=--dry-run"], {"source": "--dry-run"}),
        (["u", "--source", "a=b-c"], {"source": "a=b-c"}),
        (["u", "--group-by=a-b"], {"group_by": "a-b"}),
    ],
)
def test_booleans_need_no_value_and_dashes_stand_for_underscores(
    words: list[str], expected: dict[str, Any]
) -> None:
    assert parsed(*words) == Command(["u"], **expected)


def test_several_words_after_a_bare_boolean_are_all_kept() -> None:
    assert parsed("--dry-run", "a", "b") == Command(["a", "b"], dry_run=True)


@pytest.mark.parametrize("words", [["u", "--dry_run", "1"], ["u", "--dry-run=maybe"]])
def test_what_is_no_boolean_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*words)
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "dry_run" in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--count", "x"], "count=x, expected a whole number or all"),
        (["--augment.jpeg_p", "x"], "augment.jpeg_p=x, expected a number"),
        (["--count", "[1, 2]"], "count=[1, 2], expected a whole number or all"),
        (["--codec", "x"], "codec=x, expected png, webp"),
        (["--dry_run=maybe"], "dry_run=maybe, expected true or false"),
        (["--dry-rum"], "unrecognized arguments: --dry-rum; perhaps --dry_run"),
        (["--urls", "v"], "unrecognized arguments: --urls v; give URLS without --urls"),
        (["--augmnt.pad", "true"], "unrecognized arguments: --augmnt.pad true; perhaps --augment.pad"),
        (["--config", "gone.yaml"], "/gone.yaml: no such file"),
    ],
)
def test_a_wrong_value_is_told_without_the_words_of_python_and_parser(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parsed("u", *words)
    said = capsys.readouterr().err
    assert f"{line}; see x --help\n" in said
    assert not re.search("Parser key|<class|typing|Union", said)


def test_an_unknown_option_is_named_as_it_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("u", "--augment.jpeg-q", "1")
    line = capsys.readouterr().err
    assert "jpeg-q" in line
    assert "expected one of pad, jpeg_p" in line


def test_keys_of_a_file_are_the_options_names_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("dry_run: true\nurls: [u]\naugment: {pad: false}\n")
    assert parsed("--config", str(path)) == Command(["u"], dry_run=True, augment=Group(pad=False))
    path.write_text("dry-run: true\n")
    with pytest.raises(SystemExit):
        parsed("--config", str(path))
    assert "dry-run" in capsys.readouterr().err


def test_a_file_that_is_not_utf_8_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("urls: [u]\nsource: caf\xe9\n".encode("latin-1"))
    with pytest.raises(SystemExit, match="2"):
        parsed("--config", str(path))
    assert "a YAML file of the options is not UTF-8 (" in capsys.readouterr().err


def test_options_may_come_through_the_pipe_that_a_shell_makes() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"urls: [u]\ndry_run: true\n")
    os.close(writing)
    with open(reading, "rb"):
        assert parsed("--config", f"/dev/fd/{reading}") == Command(["u"], dry_run=True)


def test_the_configuration_that_would_be_used_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("u", "--dry-run", "--print-config")
    assert not ended.value.code
    assert "dry_run: true" in capsys.readouterr().out


def test_a_storage_out_of_reach_ends_with_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def away(_: Command) -> None:
        raise UnreachableError("the bucket is away")

    with pytest.raises(SystemExit) as ended:
        run(Command, away, ["u"], prog="x", about="")
    assert ended.value.code == os.EX_IOERR == 74
    assert capsys.readouterr().err == "error: the bucket is away\n"


def test_a_mistake_that_the_job_finds_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def job(_: Command) -> None:
        raise UserError("no")

    with pytest.raises(SystemExit) as ended:
        run(Command, job, ["u"], prog="x", about="")
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: no\n")


def test_jsonargparse_still_has_the_private_names_that_the_grammar_uses() -> None:
    """If it fails, keep jsonargparse below this version in pyproject.toml, or mend recon/base/cli.py."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_class_arguments(Command, as_group=False, as_positional=True)
    actions = {action.dest: action for action in getattr(parser, "_actions", [])}
    assert "urls" in actions, "no ArgumentParser._actions: _take_several and _choices can't find the options"
    found = getattr(actions["urls"], "_typehint", None)
    assert found == list[str], "no action._typehint: _take_several can't tell which positional is a list"
    load = getattr(actions["augment"], "_load_config", None)
    assert callable(load), "no action._load_config: _name_recipes can't take a recipe's name"
    assert next(iter(inspect.signature(load).parameters)) == "value", "_load_config takes no value first"
    names = list(inspect.signature(ArgumentParser.error).parameters)
    assert names == ["self", "message", "ex"], "ArgumentParser.error changed: parse can't use it"


def test_a_command_whose_output_is_closed_does_its_work(tmp_path: Path) -> None:
    """Python has None in place of a stream that was closed before the start."""
    save(tmp_path / "photos/a.png", photograph(16, 16, 0))
    command = [sys.executable, "-m", "recon", "--source", "photos", "--out", "made"]
    shell = f"{shlex.join([*command, '--autoencoder', 'identity'])} >&- 2>&-"
    environ = os.environ | {"PYTHONPATH": str(Path(recon.__file__).parents[1])}
    ended = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environ, timeout=300)
    assert ended.returncode == 0
    assert (tmp_path / "made/a.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_output_on_a_full_disk_is_one_line() -> None:
    environ = os.environ | {"PYTHONPATH": str(Path(recon.__file__).parents[1])}
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "recon", "--list"]
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environ, timeout=300
        )
    assert (ended.returncode, ended.stderr) == (
        2,
        "error: can't print: no space left where standard output goes\n",
    )
