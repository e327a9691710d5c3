"""The loader's worker finds our packages, whatever of the same names lies beside the user's script."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Finished
from train_data import PAIRS, make_dataset

Run = Callable[..., Finished]

ROOT = Path(__file__).parents[1]
OURS_FIRST = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
THEIRS_FIRST_AGAIN = "sys.path.pop(0)\n"  # ours are imported by now; the worker is not started yet
IMPORTS = "import webdataset as wds\nfrom train import PairLoader\n"
LOAD = "loader = PairLoader(sys.argv[1], batch_size=5, lanes=6, block=2, stages={stages})\n"
COUNT = "print(sum(len(batch.keys) for batch in loader))\n"
STAGE = "def same(sample):\n    return sample\n"
TAKE_THE_NAME = (  # as a program does that loads files by their path
    "from importlib.util import module_from_spec, spec_from_file_location\n"
    "spec = spec_from_file_location('train', sys.path[0] + '/train.py')\n"
    "sys.modules['train'] = theirs = module_from_spec(spec)\n"
    "spec.loader.exec_module(theirs)\n"
)
SERVER = (  # starts scripts as Python does, in processes that have imported torch, but nothing of ours
    "import json, os, runpy, sys\n"
    "import torch, webdataset\n"
    "for line in sys.stdin:\n"
    "    script, url, *outputs = json.loads(line)\n"
    "    if not (pid := os.fork()): break\n"
    "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
    "else: sys.exit()\n"
    "for number, name in enumerate([os.devnull, *outputs]):\n"
    "    os.dup2(os.open(name, os.O_CREAT | os.O_RDWR), number)\n"
    "sys.argv, sys.path[0] = [script, url], os.path.dirname(script)\n"
    "runpy.run_path(script, run_name='__main__')\n"
)
FILES, FOLDERS = (
    ("train.py", "pack.py", "recon.py"),
    ("train/__init__.py", "pack/__init__.py", "recon/__init__.py"),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a script that lies in a folder, with a module of stages beside it."""
    command = [sys.executable, "-c", SERVER]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # nothing to fork has threads
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin
        assert server.stdout
        asked, answers = server.stdin, server.stdout

        def run(folder: Path, url: str, *parts: str, name: str = "script.py") -> Finished:
            put(folder, "stages.py", STAGE)
            put(folder, name, "".join(parts))
            outputs = [folder / "out.txt", folder / "err.txt"]
            print(json.dumps([str(folder / name), url, *map(str, outputs)]), file=asked, flush=True)
            status = int(answers.readline())
            return Finished([name], status, *(output.read_text() for output in outputs))

        yield run


def assert_all_came(ended: Finished) -> None:
    assert (ended.stdout, ended.stderr) == (f"{PAIRS}\n", "")


@pytest.mark.parametrize(
    ("theirs", "then"), [(FILES, THEIRS_FIRST_AGAIN), (FOLDERS, THEIRS_FIRST_AGAIN), (FOLDERS, "")]
)
def test_modules_of_our_names_beside_the_script_are_passed_over(
    run: Run, url: str, tmp_path: Path, theirs: tuple[str, ...], then: str
) -> None:
    for name in theirs:
        put(tmp_path, name, "raise SystemExit('imported in place of ours')\n")
    load = LOAD.format(stages="[wds.map(same)]")
    parts = (OURS_FIRST, IMPORTS, then, "from stages import same\n", load, COUNT)
    assert_all_came(run(tmp_path, url, *parts))


def test_a_script_may_itself_be_called_train(run: Run, url: str, tmp_path: Path) -> None:
    load = LOAD.format(stages="[wds.map(same)]")
    parts = (OURS_FIRST, IMPORTS, THEIRS_FIRST_AGAIN, "from stages import same\n", load, COUNT)
    assert_all_came(run(tmp_path, url, *parts, name="train.py"))


def test_the_worker_searches_the_users_path_in_the_users_order(run: Run, url: str, tmp_path: Path) -> None:
    """A module of theirs that has the name of a module of ours, or of a library's, is still theirs."""
    for name in ("worker.py", "launch.py", "tests/__init__.py", "colorsys.py"):
        put(tmp_path, name, STAGE)
    imports = "import worker, launch, tests, colorsys\n"
    load = LOAD.format(stages="[wds.map(one.same) for one in (worker, launch, tests, colorsys)]")
    assert_all_came(run(tmp_path, url, OURS_FIRST, IMPORTS, THEIRS_FIRST_AGAIN, imports, load, COUNT))


def assert_refused(ended: Finished, *told: str) -> None:
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert all(part in last for part in told), ended.stderr


@pytest.mark.parametrize("taken", ["train", "pack.filters"])
def test_a_stage_in_a_module_of_our_name_is_refused_with_its_file(
    run: Run, url: str, tmp_path: Path, taken: str
) -> None:
    put(tmp_path, "train.py", STAGE)
    take = TAKE_THE_NAME.replace("'train'", repr(taken))
    load = LOAD.format(stages="[wds.map(theirs.same)]")
    ended = run(tmp_path, url, OURS_FIRST, IMPORTS, THEIRS_FIRST_AGAIN, take, load, "next(iter(loader))\n")
    assert_refused(ended, "UserError: ", f"module {taken!r} of {tmp_path}/train.py", "rename", "workers=0")


def test_a_module_that_took_our_name_later_harms_no_worker_that_needs_it_not(
    run: Run, url: str, tmp_path: Path
) -> None:
    put(tmp_path, "train.py", STAGE)
    load = LOAD.format(stages="[wds.map(same)]")
    parts = (OURS_FIRST, IMPORTS, THEIRS_FIRST_AGAIN, TAKE_THE_NAME, "from stages import same\n", load, COUNT)
    assert_all_came(run(tmp_path, url, *parts))


@pytest.mark.parametrize("theirs", ["pack.py", "recon/__init__.py"])
def test_a_module_that_hides_one_of_our_packages_is_named(
    run: Run, url: str, tmp_path: Path, theirs: str
) -> None:
    put(tmp_path, theirs, "raise SystemExit('imported in place of ours')\n")
    name = theirs.partition(".")[0].partition("/")[0]
    ended = run(tmp_path, url, "from train import PairLoader\n")
    assert_refused(ended, f"ImportError: {tmp_path}/{theirs} hides ", f"package {name!r}", "rename")
