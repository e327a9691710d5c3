"""The README's own lines: its commands parse, its quick start and its Python run, on small photographs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from readme_blocks import blocks, programs
from run_readers import READERS
from test_examples import ELLIPSIS, SCRIPTS

from recon.base import cli

ROOT = Path(__file__).parents[1]
LAUNCHED = {f"launch/{name}": module for name, module in SCRIPTS.items()}
ELSEWHERE = ("pip", "aws", "energon", "export")  # of others, or of the shell
SMALLER = "--epochs 1 --device cpu --threads 1 --log_every 1 --order.global_batch 8 --order.lanes 8"


def commands() -> list[list[str]]:
    """The words of each command line, without comments and variables set before it."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in map(without_variables, found) if words]


def without_variables(words: list[str]) -> list[str]:
    return words[1:] if words and re.match(r"[A-Z_]+=", words[0]) else words


def module_of(words: list[str]) -> tuple[str, list[str]] | None:
    """The module that a line runs and its arguments, None where it runs none of ours."""
    for number, word in enumerate(words[:5]):
        if word == "-m":
            return words[number + 1], words[number + 2 :]
        if word in LAUNCHED:
            return LAUNCHED[word], words[number + 1 :]
    return None


def main_of(module: str) -> Callable[[], None]:
    found: Any = import_module(module)
    if hasattr(found, "__path__"):
        found = import_module(f"{module}.__main__")
    main: Callable[[], None] = found.main
    return main


OURS = [words for words in commands() if module_of(words)]
OTHERS = [words for words in commands() if not module_of(words)]


def status_of(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit) as ended:
        main_of(module)()
    return ended.value.code


def test_there_are_lines_to_test() -> None:
    assert len(OURS) > 20
    assert {found[0] for words in OURS if (found := module_of(words))} >= {"pack", "pack.verify", "train"}
    assert set(programs()) == {"torch", "train", *READERS}
    assert len(blocks("python")) == len(programs())


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_options_of_every_command_are_there_and_their_values_valid(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_parse, parsed = cli.parse, []

    def parse_alone(*given: Any, **more: Any) -> None:
        parsed.append(real_parse(*given, **more))
        sys.exit(0)

    found = module_of(words)
    assert found
    module, arguments = found
    if "..." in arguments:
        arguments = [word for word in arguments if word != "..."] + ELLIPSIS[module]
    monkeypatch.setattr(cli, "parse", parse_alone)
    monkeypatch.chdir(ROOT)
    status = status_of(module, arguments, monkeypatch)
    assert (status, capsys.readouterr().err) == (0, "")
    assert len(parsed) == 1


@pytest.mark.parametrize("script", LAUNCHED)
def test_scripts_hand_their_options_to_the_module(script: str) -> None:
    handed = (f'-m {LAUNCHED[script]} "$@"', '/launch/torchrun.sh" --resume auto "$@"')
    assert any(words in (ROOT / script).read_text("utf-8") for words in handed)


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_every_other_line_calls_what_is_there(words: list[str]) -> None:
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "python":
        script = (ROOT / words[1]).read_text("utf-8")
        assert [word for word in words if word.startswith("--") and f'"{word}"' not in script] == []
    else:
        assert words[0] in ELSEWHERE


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first way through the quick start was gone, line by line."""
    folder = tmp_path_factory.mktemp("readme")
    for number in range(20):
        save(folder / f"photos/{number:02}.jpg", photograph(100, 112, number), quality=90)
    lines = [words for words in commands()[: commands().index(evaluate_line()) + 1] if module_of(words)]
    skipped = [words for words in lines if "fakes" in words or "tree" in words]  # other ways to pack
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for words in lines:
            if words not in skipped:
                go(words, monkeypatch)
    return folder


def evaluate_line() -> list[str]:
    return next(words for words in commands() if "train.evaluate" in words)


def go(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a line, with the embedded autoencoder and the detector for CPUs."""
    replaced = {"sd15": "tiny", "configs/aligned-iclr25.yaml": str(ROOT / "configs/cpu.yaml")}
    words = [replaced.get(word, word) for word in words]
    if words[0] in LAUNCHED:
        launched = ["bash", str(ROOT / words[0]), *words[1:], *shlex.split(SMALLER)]
        variables = os.environ | {"PYTHON": sys.executable, "NPROC_PER_NODE": "1"}
        ended = subprocess.run(launched, env=variables, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return
    found = module_of(words)
    assert found
    status = status_of(*found, monkeypatch)
    assert status == 0 or (found[0] == "pack.audit" and status == 1), words  # waves aren't photographs


def test_quick_start_gives_what_it_says(quick_start: Path) -> None:
    assert (quick_start / "data/mine/train/dataset.json").exists()
    assert (quick_start / "data/mine/val/dataset.json").exists()
    assert (quick_start / "preview.png").stat().st_size > 0
    assert (quick_start / "runs/mine/best.pt").exists()
    assert list((quick_start / "runs/mine/eval-mine-val").iterdir())


RUN = {  # a package whose lines run here, and what shows that they did; tests/run_readers.py runs all readers
    "train": "",
    "torch": "print(sum(state['step'] for state in optimizer.state.values()).item())",
    "webdataset": "print(real.size)",
    "datasets": "print(real.size)",
}


@pytest.mark.parametrize("name", RUN)
def test_python_runs_as_it_stands(quick_start: Path, name: str) -> None:
    (quick_start / "snippet.py").write_text(programs()[name] + RUN[name], "utf-8")
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=quick_start,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() not in ("", "0")
