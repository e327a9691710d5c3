"""A rank without torch that does one thing: ``python toy_rank.py DEED FOLDER``."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from patience import PATIENCE_S

from recon.base import cli
from recon.base.errors import PeerError, UnreachableError, UserError

RANK = int(os.environ["RANK"])
FIRST_START = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
# A file; a later start has another, or its ranks would leave because those before them were asked to.
ASKED = "asked" if FIRST_START else f"asked-{os.environ['TORCHELASTIC_RESTART_COUNT']}"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a rank does."""

    deed: str
    folder: str
    """Where the ranks and the test meet."""


asked = False


def _ask(_number: int, _frame: FrameType | None) -> None:
    global asked
    asked = True


def wait(folder: Path) -> int:
    """As training: saves and leaves when any rank is asked to, and fails if one of them is gone."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if asked:
            (folder / ASKED).touch()
        if (folder / ASKED).exists():
            return os.EX_TEMPFAIL
        if (folder / "killed").exists() and RANK:
            raise PeerError(f"rank {RANK} stops: another rank ended")
        time.sleep(0.02)
    return 1


def job(config: Config) -> int:
    folder = Path(config.folder)
    if config.deed == "mistake":
        raise UserError(f"a mistake that each rank finds, in {config.folder}")
    if config.deed == "mistake of one":
        if RANK:
            (folder / "killed").touch()
            raise UserError("a mistake that rank 1 alone finds")
        if (folder / "waits").exists():  # as in torch, which waits for a rank that never comes
            return wait(folder)
        while not (folder / "killed").exists():
            time.sleep(0.02)
        raise PeerError("rank 0 stops: another rank ended")
    if config.deed == "away":
        threading.Thread(target=time.sleep, args=(2 * PATIENCE_S,)).start()  # a read that hangs
        raise UnreachableError("the bucket is away")
    if config.deed == "leave":
        return os.EX_TEMPFAIL
    if config.deed == "peer":  # rank 1 notices that rank 0 ends before rank 0 has ended
        if RANK:
            while not (folder / "ready").exists():
                time.sleep(0.02)
            raise PeerError("rank 1 stops: another rank ended")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / "ready").touch()
        time.sleep(0.3)
        raise UserError("the cause")
    if config.deed == "killed" and RANK == 0:
        started = f"started-{os.environ['TORCHELASTIC_RESTART_COUNT']}-*"
        while len(list(folder.glob(started))) < 2:  # the other rank is to have begun
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    if config.deed == "killed once" and FIRST_START:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.deed == "killed once":
        return 0
    if config.deed == "broken":
        raise RuntimeError("a fault of ours")
    return wait(folder)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ask)
    (Path(sys.argv[2]) / f"started-{os.environ['TORCHELASTIC_RESTART_COUNT']}-{RANK}-{os.getpid()}").touch()
    if sys.argv[1] == "slow to start":
        time.sleep(1)
    cli.parse = lambda *_, **__: Config(deed=sys.argv[1], folder=sys.argv[2])  # type: ignore[assignment]
    cli.run(Config, job, prog="", about="")
