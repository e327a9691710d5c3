"""Runs torchrun on a node: python launch/torchrun.py [OPTIONS OF TORCHRUN] -m train ...

Without options of torchrun, the node's variables tell them (`recon.place.node`), and the first line says what
was found. With DRY_RUN=1 the command line of torchrun is printed and nothing is run.

* If ranks fail, one line tells the first cause, and its status is the exit status: 2 for a mistake of the
  user, 69 if a rank or node elsewhere has ended, 128 + N for a rank that signal N killed.
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
INTERRUPTED = 128 + signal.SIGINT


def _leave(number: int, _frame: FrameType | None) -> None:
    """Ends this process before there are ranks to inform; later torchrun handles signals itself."""
    signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        _end("interrupted", INTERRUPTED)
    sys.exit(os.EX_TEMPFAIL)


def _end(message: str, status: int) -> NoReturn:
    for number in (signal.SIGINT, *PREEMPTION):  # torchrun's handlers would raise while Python shuts down
        signal.signal(number, signal.SIG_IGN)
    sys.stderr.write(f"error: {message}\n")
    sys.exit(status)


for each in (signal.SIGINT, *PREEMPTION):
    signal.signal(each, _leave)

import logging  # noqa: E402
import shlex  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

from recon.base.errors import PeerError, UserError  # noqa: E402
from recon.launcher.launcher import LAUNCHER  # noqa: E402
from recon.place.node import Node, find_node  # noqa: E402

# The variables of torchrun's options --signals-to-handle and --shutdown-timeout. The latter is the time in
# seconds that the ranks have to save after a signal; the scheduler's own limit may be shorter.
os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "600")
# If all restarts shared one store, new ranks would read addresses of dead ranks (pytorch issue 135712).
os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
# Below: "The hostname of the client socket cannot be retrieved", wherever names can't be looked up backwards.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
os.environ[LAUNCHER] = str(os.getpid())

FINAL = (2, os.EX_TEMPFAIL)
"""Statuses of ranks that another start would not change, or that ask the scheduler for it."""
STOPPED = (os.EX_TEMPFAIL, 128 + signal.SIGTERM)
"""What torchrun makes of the other ranks of its node, once one has failed."""


def _status(code: int) -> int:
    """Returns the status as a shell does: 128 + the signal's number for a process that a signal killed."""
    return 128 - code if code < 0 else code


def _cause(failures: Mapping[int, Any]) -> tuple[int, str]:
    """Status and text of the failure that the others followed from."""

    def order(rank: int) -> tuple[bool, bool, int]:
        status = _status(failures[rank].exitcode)
        return status in STOPPED, status == os.EX_UNAVAILABLE, failures[rank].timestamp

    rank = min(failures, key=order)
    failure = failures[rank]
    status = _status(failure.exitcode)
    told = failure.error_file_data.get("message", "")
    if failure.exitcode < 0:
        return status, f"rank {rank} was killed by {failure.signal_name()}"
    if told == "<NONE>":  # torchrun's word for no message
        return status, f"rank {rank} ended with status {status}; see what it wrote above"
    return status, told


def _run(options: list[str]) -> None:
    """Runs torchrun to the end of its ranks."""
    from torch.distributed import DistError  # type: ignore[attr-defined]
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher import api
    from torch.distributed.run import main

    class Agent(LocalElasticAgent):
        """Restarts no ranks that ended on purpose, and survives the node that keeps the rendezvous."""

        def __init__(self, spec: Any, *rest: Any, **more: Any) -> None:
            super().__init__(spec, *rest, **more)
            waiting = spec.rdzv_handler.num_nodes_waiting
            lost = False

            def num_nodes_waiting() -> int:
                """Nodes that want to join; none any more once their place to meet has gone."""
                nonlocal lost
                try:
                    return 0 if lost else waiting()
                except (RendezvousError, DistError):
                    lost, self._remaining_restarts = True, 0  # the ranks end by themselves, or go on
                    return 0

            spec.rdzv_handler.num_nodes_waiting = num_nodes_waiting

        def _start_workers(self, group: WorkerGroup) -> dict[int, Any]:
            # Until a rank can handle it, Ctrl-C must wait (`recon.launcher.launcher.attach`).
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                return super()._start_workers(group)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

        def _monitor_workers(self, group: WorkerGroup) -> RunResult:
            result = super()._monitor_workers(group)
            if result.is_failed() and result.failures and self._remaining_restarts:
                status, cause = _cause(result.failures)
                if status in FINAL:
                    self._remaining_restarts = 0
                else:
                    sys.stderr.write(
                        f"{cause}: all ranks start again, {self._remaining_restarts} times at most\n"
                    )
            return result

    api.LocalElasticAgent = Agent  # type: ignore[misc]
    # torchrun reports each failure in several lines; what it knows is told in one line below.
    logging.disable()
    try:
        main(options)
    except ChildFailedError as error:
        status, cause = _cause(error.failures)
        if status == os.EX_TEMPFAIL:
            sys.exit(status)
        _end(cause, status)
    except SignalException as error:
        if error.sigval in PREEMPTION:
            sys.exit(os.EX_TEMPFAIL)
        _end(
            "interrupted" if error.sigval == signal.SIGINT else f"ended by {error.sigval.name}",
            128 + error.sigval,
        )
    except (RendezvousError, DistError) as error:
        kind, said = type(error).__name__, " ".join(str(error).split())
        _end(
            f"the nodes did not come together ({kind}: {said}); see the other nodes' logs", os.EX_UNAVAILABLE
        )


def _local_address(node: Node) -> str | None:
    """Waits for the node where all meet to listen; returns the address that it sees of this one.

    Not all clusters can look up the names of nodes, as those of Kubernetes' pods.
    """
    host, _, port = (node.endpoint or "").rpartition(":")
    if node.is_host or not host:
        return None
    deadline = time.monotonic() + node.join_s
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as connection:
                address: str = connection.getsockname()[0]
                return None if address.startswith("127.") or address == "::1" else address
        except OSError as error:
            if node.is_host is None:  # this may be the one; torchrun knows
                return None
            if time.monotonic() > deadline:
                raise PeerError(
                    f"{node.endpoint} does not listen after {node.join_s} s ({error}); is node 0 running?"
                ) from None
        time.sleep(1)


def _found(words: list[str]) -> list[str]:
    """The options of torchrun that this node's variables tell, and the command behind them."""
    node = find_node(os.environ, together=words[1] != "pack")
    if os.environ.get("DRY_RUN"):
        sys.stdout.write(
            f"{node.told(node.processes)}\n{shlex.join(['torchrun', *node.options(), *words])}\n"
        )
        sys.exit()
    from torch.distributed.run import determine_local_world_size

    count = determine_local_world_size(node.processes)
    sys.stderr.write(f"{node.told(count)}\n")
    return [*replace(node, processes=str(count)).options(_local_address(node)), *words]


if __name__ == "__main__":
    given = sys.argv[1:]
    try:
        _run(_found(given) if given[:1] == ["-m"] else given)
    except UserError as error:
        _end(str(error), 2)
    except PeerError as error:
        _end(str(error), os.EX_UNAVAILABLE)
