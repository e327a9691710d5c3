"""Runs torchrun for launch/torchrun.py; importing it imports torch.

torchrun starts ranks again whatever they ended with, tells a failure in a table, dies with a traceback when
the node that keeps the rendezvous does, and misses no node that falls silent. Here ranks that ended on
purpose are not started again, a silent node is given up, and one line tells the first cause.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import api as rendezvous
from torch.distributed.launcher import api
from torch.distributed.run import main

from recon.launcher.admission import Admission, NotAdmittedError, Told, meet_again
from recon.launcher.clocks import compare_no_clocks
from recon.launcher.watch import Patience, Watch, end_silent_connections

_FINAL = (2, os.EX_TEMPFAIL)  # ranks that another start would not change, or that ask the scheduler for it
_STOPPED = (os.EX_TEMPFAIL, 128 + signal.SIGTERM)  # what the others end with once torchrun stops them
_NO_MESSAGE = "<NONE>"  # torchrun's word for it
_ENDED, _MISTAKE = "pairstream/ended", "pairstream/mistake"
_LINGER_S = 3.0  # the store may be this process's own: nodes that look into it every second learn the reason
_HOST_LOST = (
    "the node where all meet has gone: MAX_RESTARTS starts nothing again without it, start all nodes again"
)
_APART: dict[type[Exception], str] = {  # why nodes do not come together
    rendezvous.RendezvousTimeoutError: "too few came in time",
    rendezvous.RendezvousClosedError: "the run has ended on another node",
    rendezvous.RendezvousConnectionError: "the node where all meet has gone, or can't be reached",
}


class _GoneError(Exception):
    """Another node is silent; the text says which."""


class _MistakeError(Exception):
    """A rank of another node has ended with 2; the text says where, and why."""


def run(
    options: list[str],
    patience: Patience = Patience(),  # noqa: B008  # frozen
    number: int | None = None,
) -> tuple[int, str | None]:
    """Runs torchrun to the end of its ranks.

    Args:
        options: the arguments of torchrun.
        patience: how long to wait for other nodes.
        number: of this node, if it was told one.

    Returns:
        The exit status, and the error in one line, if there is one to tell.
    """
    api.LocalElasticAgent = partial(_Agent, patience=patience, number=number)  # type: ignore[assignment, attr-defined]
    compare_no_clocks()
    logging.disable()  # torchrun reports a failure in several lines; what it knows is told in one
    try:
        main(options)
    except ChildFailedError as error:
        status, cause = _cause(error.failures)
        return status, None if status == os.EX_TEMPFAIL else cause
    except SignalException as error:
        return _after_signal(error.sigval)
    except NotAdmittedError as error:
        if not number:
            time.sleep(_LINGER_S)
        return error.status, str(error)
    except _MistakeError as error:
        return 2, str(error)
    except _GoneError as error:
        return os.EX_UNAVAILABLE, f"{error}; see the other nodes' logs"
    except (rendezvous.RendezvousError, DistError) as error:
        said = _APART.get(type(error)) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        return os.EX_UNAVAILABLE, f"the nodes did not come together: {said}; see the other nodes' logs"
    return 0, None


def _after_signal(number: signal.Signals) -> tuple[int, str | None]:
    """How the launcher ends after a signal that it has passed on to the ranks."""
    if number in (signal.SIGTERM, signal.SIGUSR1):  # those of `train.world.stop`: the ranks have saved
        return os.EX_TEMPFAIL, None
    return 128 + number, "interrupted" if number == signal.SIGINT else f"ended by {number.name}"


class _Agent(LocalElasticAgent):
    """What torchrun is on one node."""

    def __init__(self, spec: Any, *rest: Any, patience: Patience, number: int | None, **more: Any) -> None:
        super().__init__(spec, *rest, **more)
        self._patience, self._number, self._lost = patience, number, False
        self._watch: Watch | None = None
        self._admission: Admission | None = None
        self._mistake: tuple[float, str] | None = None  # when it was heard of, and the text
        self._looked = 0.0
        self._waiting = spec.rdzv_handler.num_nodes_waiting
        spec.rdzv_handler.num_nodes_waiting = self._num_nodes_waiting

    def _num_nodes_waiting(self) -> int:
        """Nodes that want to join; none any more once the node where all meet has gone.

        The ranks do without it: they end by themselves, because one of them has gone too, or train on.
        """
        if self._lost:
            return 0
        try:
            return int(self._waiting())
        except (rendezvous.RendezvousError, DistError):
            self._lost, self._remaining_restarts = True, 0
            return 0

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        end_silent_connections(self._patience.silence_s)
        handler: Any = worker_group.spec.rdzv_handler
        if self._admission is None and handler.get_backend() == "c10d" and handler.settings.max_nodes > 1:
            self._admission = Admission(handler._store, handler, self._told(worker_group.spec))
            self._admission.enter()
        with self._reason():
            super()._rendezvous(worker_group)
        if self._watch:
            self._watch.stop()
        rank, size = worker_group.group_rank or 0, worker_group.group_world_size or 1
        self._watch = None
        if handler.get_backend() != "c10d":  # etcd has neither such a store nor these settings
            return
        if size > 1:
            self._watch = Watch(worker_group.store, rank, size, self._patience.silence_s)
        meet_again(handler.settings, self._patience.rejoin_s)

    def _told(self, spec: Any) -> Told:
        """What this node tells the others of itself."""
        least, most = spec.rdzv_handler.settings.min_nodes, spec.rdzv_handler.settings.max_nodes
        return Told(
            node=repr(spec.rdzv_handler._this_node),
            host=socket.gethostname(),
            nodes=str(most) if least == most else f"{least}:{most}",
            processes=spec.local_world_size,
            number=self._number,
        )

    @contextmanager
    def _reason(self) -> Iterator[None]:
        """Context manager: where another node has ended the run before it began, its reason is raised."""
        try:
            yield
        except rendezvous.RendezvousClosedError:
            if self._admission and (reason := self._admission.refused()):
                raise NotAdmittedError(reason, 2) from None
            raise

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        if worker_group.state is WorkerState.HEALTHY:
            sys.stderr.write("a node joins: all ranks save, end, and start again with it\n")
        super()._restart_workers(worker_group)

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
        if result.state is WorkerState.HEALTHY and self._watch:
            if gone := self._watch.gone():
                return self._without(gone)
            self._end_with_others()
        if result.is_failed() and result.failures:
            status, cause = _cause(result.failures)
            if status == os.EX_TEMPFAIL and self._is_wanted(worker_group):
                return RunResult(state=WorkerState.HEALTHY)  # then torchrun lets it in
            if status == os.EX_UNAVAILABLE and (mistake := self._mistake_elsewhere()):
                raise _MistakeError(mistake)
            if status in _FINAL:
                self._remaining_restarts = 0
                self._tell_mistake(status, cause)
            elif self._lost and worker_group.spec.max_restarts:
                sys.stderr.write(f"{_HOST_LOST}\n")
            elif left := self._remaining_restarts:
                sys.stderr.write(f"{cause}: all ranks start again, {left} times at most\n")
        return result

    def _is_wanted(self, worker_group: WorkerGroup) -> bool:
        """Whether ranks saved and left because a node wants to join: another launcher asked its own to.

        Only where nodes may come and go; elsewhere somebody has asked the run to end.
        """
        spec = worker_group.spec
        settings = getattr(spec.rdzv_handler, "settings", None)
        if settings is None or settings.min_nodes == settings.max_nodes:
            return False
        time.sleep(1.1)  # torch looks once a second
        return self._num_nodes_waiting() > 0

    def _without(self, gone: str) -> RunResult:
        """Ends the ranks, which wait for a node that is silent, and could not save."""
        self._shutdown(signal.SIGKILL)
        left = self._remaining_restarts
        if not left:
            raise _GoneError(gone)
        sys.stderr.write(f"{gone}: all ranks start again, {left} times at most\n")
        return RunResult(state=WorkerState.UNHEALTHY)

    def _tell_mistake(self, status: int, cause: str) -> None:
        """Tells the other nodes of a mistake, which no start of theirs would mend."""
        if status == 2 and self._watch:
            store: Any = self._worker_group.store
            with suppress(RuntimeError):  # the node with the store has ended
                store.set(_MISTAKE, f"{socket.gethostname()}: {cause}")
            time.sleep(_LINGER_S)

    def _end_with_others(self) -> None:
        """Ends ranks that still wait for those of a node that has ended for a mistake."""
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        self._look_for_mistake()
        if self._mistake and now - self._mistake[0] > _LINGER_S:  # till then they may end by themselves
            self._shutdown(signal.SIGKILL)
            raise _MistakeError(self._mistake[1])

    def _mistake_elsewhere(self) -> str | None:
        """The mistake for which another node has ended; it may tell of it only after its ranks are missed."""
        for _ in range(10 if self._watch else 0):
            self._look_for_mistake()
            if self._mistake:
                return self._mistake[1]
            time.sleep(0.2)
        return None

    def _look_for_mistake(self) -> None:
        store: Any = self._worker_group.store
        with suppress(RuntimeError):  # the node with the store has ended
            if not self._mistake and store.check([_MISTAKE]):
                self._mistake = time.monotonic(), str(store.get(_MISTAKE).decode())

    def _exit_barrier(self) -> None:
        """Waits for the ranks of other nodes, which may need this one's store, as long as the nodes live."""
        store: Any = self._worker_group.store
        size = self._worker_group.group_world_size or 1
        with suppress(RuntimeError):  # the node with the store has ended
            ended = store.add(_ENDED, 1)
            while ended < size and not (self._watch and self._watch.gone()):
                time.sleep(0.2)
                ended = store.add(_ENDED, 0)


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
