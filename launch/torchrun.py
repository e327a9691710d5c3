"""Runs torchrun on a node: python launch/torchrun.py [OPTIONS OF TORCHRUN] -m train ...

Without options of torchrun, the node's variables tell them (`recon.place.node`), and the first line says what
was found. With DRY_RUN=1 the command line of torchrun is printed and nothing is run.

* If ranks fail, one line tells the first cause, and its status is the exit status: 2 for a mistake of the
  user, on all nodes; 69 if a rank or node elsewhere has ended; 128 + N for a rank that signal N killed.
* SIGTERM and SIGUSR1 from Slurm or Kubernetes are passed on to all ranks, which save and end. The exit status
  is then 75 (EX_TEMPFAIL): the scheduler must start the job again, and not count it as done.
* Neither of 2 and 75 is followed by a restart of the ranks, on any node.
* If this process is killed, its ranks get SIGTERM (`recon.launcher.launcher`).
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
"""Same as `train.world.stop.SIGNALS`; not imported, so that the handlers below are set at once."""


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Ends this process before there are ranks to inform; later torchrun handles signals itself.

    At once, since an exception in the midst of torch's imports may end in C++ that does not expect one.
    """
    if number != signal.SIGINT:
        os._exit(os.EX_TEMPFAIL)
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


def _end(status: int, message: str | None = None) -> NoReturn:
    """Ends this process at once, whose threads may still wait in torch for a node that has gone."""
    if message is not None:
        sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    os._exit(status)


for each in (signal.SIGINT, *PREEMPTION):
    signal.signal(each, _leave)

import shlex  # noqa: E402
from dataclasses import replace  # noqa: E402

from recon.base.errors import PeerError, UserError  # noqa: E402
from recon.launcher.launcher import LAUNCHER  # noqa: E402
from recon.launcher.watch import Patience  # noqa: E402
from recon.place.meeting import local_address  # noqa: E402
from recon.place.node import find_node  # noqa: E402

# The variables of torchrun's options --signals-to-handle and --shutdown-timeout. The latter is the time in
# seconds that the ranks have to save after a signal; the scheduler's own limit may be shorter.
os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "600")
# If all restarts shared one store, new ranks would read addresses of dead ranks (pytorch issue 135712).
os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
# Below it is "The hostname of the client socket cannot be retrieved", wherever an address has no name.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
os.environ[LAUNCHER] = str(os.getpid())


_ANSWERED = ("--help", "-h", "--print_config", "--print-config")  # by one process at once


def _found(words: list[str]) -> tuple[list[str], Patience, int | None]:
    """What this node's variables tell: options of torchrun with the command behind them, patience, number."""
    node = find_node(os.environ, together=words[1:2] != ["pack"])
    if os.environ.get("DRY_RUN"):
        command = shlex.join(["torchrun", *node.options(), *words])
        sys.stdout.write(f"{node.told(node.processes)}\n{command}\n")
        sys.exit()
    if not node.processes.isdecimal():
        from torch.distributed.run import determine_local_world_size

        try:
            node = replace(node, processes=str(determine_local_world_size(node.processes)))
        except ValueError as error:
            raise UserError(f"NPROC_PER_NODE={node.processes}: {error} Give a number, or auto") from None
    sys.stderr.write(f"{node.told(node.processes)}\n")
    patience = Patience(silence_s=node.silence_s, rejoin_s=node.rejoin_s)
    return [*node.options(local_address(node)), *words], patience, node.rank


def _run(words: list[str]) -> NoReturn:
    if words[:1] == ["-m"] and any(word.partition("=")[0] in _ANSWERED for word in words):
        os.execv(sys.executable, [sys.executable, *words])
    try:
        found = _found(words) if words[:1] == ["-m"] else (words,)
    except UserError as error:
        _end(2, str(error))
    except PeerError as error:
        _end(os.EX_UNAVAILABLE, str(error))
    from recon.launcher.agent import run

    _end(*run(*found))


if __name__ == "__main__":
    _run(sys.argv[1:])
