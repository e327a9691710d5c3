"""Runs torchrun for launch/torchrun.py; importing it imports torch.

torchrun starts ranks again whatever they ended with, tells a failure in a table, and dies with a traceback
when the node that keeps the rendezvous does. Here ranks that ended on purpose are not started again, and one
line tells the first cause.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher import api
from torch.distributed.run import main

_FINAL = (2, os.EX_TEMPFAIL)  # ranks that another start would not change, or that ask the scheduler for it
_STOPPED = (os.EX_TEMPFAIL, 128 + signal.SIGTERM)  # what the others end with once torchrun stops them
_NO_MESSAGE = "<NONE>"  # torchrun's word for it


def run(options: list[str]) -> tuple[int, str | None]:
    """Runs torchrun to the end of its ranks.

    Args:
        options: the arguments of torchrun.

    Returns:
        The exit status, and the error in one line, if there is one to tell.
    """
    api.LocalElasticAgent = _Agent  # type: ignore[attr-defined]
    logging.disable()  # torchrun reports a failure in several lines; what it knows is told in one
    try:
        main(options)
    except ChildFailedError as error:
        status, cause = _cause(error.failures)
        return status, None if status == os.EX_TEMPFAIL else cause
    except SignalException as error:
        return _after_signal(error.sigval)
    except (RendezvousError, DistError) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return os.EX_UNAVAILABLE, f"the nodes did not come together ({said}); see the other nodes' logs"
    return 0, None


def _after_signal(number: signal.Signals) -> tuple[int, str | None]:
    """How the launcher ends after a signal that it has passed on to the ranks."""
    if number in (signal.SIGTERM, signal.SIGUSR1):  # those of `train.world.stop`: the ranks have saved
        return os.EX_TEMPFAIL, None
    return 128 + number, "interrupted" if number == signal.SIGINT else f"ended by {number.name}"


class _Agent(LocalElasticAgent):
    """What torchrun is on one node."""

    def __init__(self, spec: Any, *rest: Any, **more: Any) -> None:
        super().__init__(spec, *rest, **more)
        self._waiting, self._lost = spec.rdzv_handler.num_nodes_waiting, False
        spec.rdzv_handler.num_nodes_waiting = self._num_nodes_waiting

    def _num_nodes_waiting(self) -> int:
        """Nodes that want to join; none any more once the node where all meet has gone.

        The ranks do without it: they end by themselves, because one of them has gone too, or train on.
        """
        if self._lost:
            return 0
        try:
            return int(self._waiting())
        except (RendezvousError, DistError):
            self._lost, self._remaining_restarts = True, 0
            return 0

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        # Until a rank can handle it, Ctrl-C must wait (`recon.launcher.launcher.attach`).
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            started: dict[int, Any] = super()._start_workers(worker_group)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed() and result.failures and self._remaining_restarts:
            status, cause = _cause(result.failures)
            if status in _FINAL:
                self._remaining_restarts = 0
            else:
                left = self._remaining_restarts
                sys.stderr.write(f"{cause}: all ranks start again, {left} times at most\n")
        return result


def _cause(failures: Mapping[int, ProcessFailure]) -> tuple[int, str]:
    """Status and text of the failure, by rank, that the others followed from."""

    def order(rank: int) -> tuple[bool, bool, int]:
        status = _status(failures[rank].exitcode)
        return status in _STOPPED, status == os.EX_UNAVAILABLE, failures[rank].timestamp

    rank = min(failures, key=order)
    failure = failures[rank]
    status, told = _status(failure.exitcode), failure.error_file_data.get("message", _NO_MESSAGE)
    if failure.exitcode < 0:
        return status, f"rank {rank} was killed by {failure.signal_name()}"
    if told == _NO_MESSAGE:
        return status, f"rank {rank} ended with status {status}; see what it wrote above"
    return status, told


def _status(code: int) -> int:
    """A status as a shell has it: 128 + the signal's number for a process that a signal killed."""
    return 128 - code if code < 0 else code
