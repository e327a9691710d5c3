"""launch/torchrun.py in a process forked from one that has imported torch, with ranks that take no time."""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from forked import fork_server
from patience import PATIENCE_S

ROOT = Path(__file__).parents[1]


def _launch(words: list[str], error: str, variables: dict[str, str]) -> None:
    os.setsid()
    os.dup2(os.open(error, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.environ.update(variables)
    sys.argv = ["launch/torchrun.py", *words]
    runpy.run_path(str(ROOT / "launch/torchrun.py"), run_name="__main__")


@dataclass(frozen=True)
class Launched:
    """A launcher that runs, and the folder in which its ranks show that they do."""

    process: BaseProcess
    folder: Path
    error: Path

    def send(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def started(self, restart: int = 0) -> list[int]:
        """Process numbers of the ranks of a start."""
        return [int(path.name.split("-")[3]) for path in self.folder.glob(f"started-{restart}-*")]

    def ended(self) -> tuple[int, list[str]]:
        """Its exit status, and the lines that it and its ranks wrote."""
        self.process.join(PATIENCE_S)
        assert self.process.exitcode is not None, "the launcher hangs"
        return self.process.exitcode, self.error.read_text().splitlines()


@contextmanager
def launched(deed: str, folder: Path, name: str = "node", /, **options: str) -> Iterator[Launched]:
    """Starts two ranks (or `nproc_per_node`) that do `deed`, by the options of torchrun."""
    chosen: dict[str, str] = {"nnodes": "1", "nproc_per_node": "2", "max_restarts": "3"} | options
    words = [f"--{option.replace('_', '-')}={value}" for option, value in chosen.items()]
    words += ["--standalone"] if chosen["nnodes"] == "1" else []
    error = folder / f"{name}.err"
    arguments = ([*words, str(ROOT / "tests/toy_rank.py"), deed, str(folder)], str(error), _variables())
    process: BaseProcess = fork_server().Process(target=_launch, args=arguments)  # type: ignore[attr-defined]
    process.start()
    one = Launched(process, folder, error)
    try:
        yield one
    finally:
        for pid in [process.pid or 0] * process.is_alive() + one.started():
            if _lives(pid):
                os.kill(pid, signal.SIGKILL)
        process.join()


def _variables() -> Mapping[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))), "LOGLEVEL": "WARNING"}


def until(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def gone(pids: list[int]) -> bool:
    return not any(map(_lives, pids))


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for somebody to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
