"""A process that launch/torchrun.py has started: it ends with it, and leaves it to print the error.

The launcher prints one line for all its ranks. So a rank gives it the text of its error by torchrun's own
way, the JSON file that TORCHELASTIC_ERROR_FILE names.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

LAUNCHER = "PAIRSTREAM_LAUNCHER"
"""The variable in which launch/torchrun.py tells its process number to the ranks that it starts."""

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h


def attach() -> None:
    """Begins a command: it ends with its launcher, if it has one, and with Ctrl-C, without a traceback.

    If the launcher is killed, Linux sends SIGTERM to the process. Without that its ranks would train on, and
    write to a place where a second start writes too. Training saves a checkpoint and ends.
    """
    signal.signal(signal.SIGINT, _interrupt)
    launcher = _launcher()
    if is_launched() and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, int(signal.SIGTERM))
    if launcher and not _lives(launcher):  # it died before the line above
        os.kill(os.getpid(), signal.SIGTERM)
    # The launcher blocks SIGINT where it starts a rank: there was no handler for it yet.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def is_launched() -> bool:
    """Whether launch/torchrun.py has started this process."""
    return os.getppid() == _launcher()


def told_launcher(message: str) -> bool:
    """Gives the launcher the text of the error that this process ends with; False if there is no launcher."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file or not is_launched():
        return False
    with open(file, "w", encoding="utf-8") as written:
        json.dump({"message": message, "timestamp": str(int(time.time()))}, written)
    return True


def leave_at_once(message: str, status: int) -> None:
    """Ends a process that has a launcher, which prints the text, without waiting for its threads."""
    if told_launcher(message):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a full disk
                stream.flush()
        os._exit(status)


def _launcher() -> int:
    """The process number of the launcher; 0 without one."""
    told = os.environ.get(LAUNCHER, "")
    return int(told) if told.isdecimal() else 0


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may stay listed until its parent asks how."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:  # it has gone, or this is not Linux
        return sys.platform != "linux"


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends the command by an exception; a second Ctrl-C ends the process at once, and without a word.

    In the midst of an import it ends at once too: C++ that is being loaded may not expect an exception.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _imports(frame):
        if not told_launcher("interrupted"):
            os.write(2, b"error: interrupted\n")
        os._exit(128 + number)
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether a frame, or one of its callers, is Python's own code for imports."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
