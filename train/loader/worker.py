"""The loader's worker: a process that reads, decodes and cuts beside the trainer.

It is a new process, never a fork, so that the trainer's threads and CUDA can't harm it. Windows lie in
memory that both share; everything else goes through a socket. It ignores the signals that are meant for the
trainer, and ends when the trainer does.

This is the trainer's side of it; `train.loader.service` is the worker's.
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from recon.base.errors import UserError
from train.loader.messages import SLOTS, Ended, Filled, Free, Start, slots_of
from train.loader.packing import pickled
from train.loader.reader import LoaderPlan
from train.window.masked_batch import WindowBatch

_CHILD = Path(__file__).with_name("child.py")
# It decodes on threads of its own. Threads of BLAS, and an arena of malloc for each thread, only cost memory.
_SMALL = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


class Worker:
    """A worker process, as the trainer sees it.

    Args:
        plan: of the loader.

    Raises:
        UserError: the plan's stages can't be sent.
    """

    def __init__(self, plan: LoaderPlan) -> None:
        packed = pickled(plan)  # before a process is started: it may be refused
        memory = _shared_memory(SLOTS * plan.room.size)
        self._slots = slots_of(memory, plan.room)
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        self._process = _started(theirs.fileno(), memory)
        theirs.close()  # the worker alone holds its end now, so that its death is heard at once
        os.close(memory)
        self._loop = 0
        self._begun: tuple[int, int] | None = None
        # Not `__del__`: it also runs when the interpreter ends, before modules are taken apart.
        self._close = weakref.finalize(self, _end, self._process, self._connection)
        self._send(packed)

    def start(self, epoch: int, step: int) -> None:
        """Begins a loop: the worker fills the slots before `batches` is asked for the same."""
        self._loop += 1
        self._begun = epoch, step
        self._send(pickle.dumps(Start(self._loop, epoch, step)))

    def batches(self, epoch: int, step: int) -> Generator[WindowBatch, None, None]:
        """The batches from a step of an epoch on; the windows of each hold until the next is asked for.

        Raises:
            UserError: what went wrong in the worker, or that it died.
        """
        if self._begun != (epoch, step):
            self.start(epoch, step)
        self._begun, loop = None, self._loop
        while True:
            message = self._receive(loop)
            if isinstance(message, Ended):
                return _raise(message)
            yield message.whole(self._slots)
            self._send(pickle.dumps(Free(loop, message.slot)))

    def _send(self, data: bytes) -> None:
        # Where the worker is dead, this is no error yet: `_receive` first gives what the worker had sent, its
        # own error perhaps, and then says that it is dead.
        with suppress(OSError):
            self._connection.send_bytes(data)

    def _receive(self, loop: int) -> Filled | Ended:
        """The next message of this loop; those of a loop that was left are ignored."""
        while True:
            try:
                # The end of the socket says that the worker is dead, unless a process that a stage started
                # has inherited it. So the process itself is asked too; after that the socket once more, as
                # a last message may have come between the two questions.
                while not self._connection.poll(1.0):
                    if self._process.poll() is not None and not self._connection.poll():
                        raise EOFError
                message: Filled | Ended = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError) as error:
                raise UserError(_death(self._process)) from error
            if message.loop == loop:
                return message

    @property
    def lives(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process."""
        self._close()


def _started(connection: int, memory: int) -> "subprocess.Popen[bytes]":
    """The worker process; the two file descriptors stay open in it under their numbers."""
    # By its path, and without the script's own folder on the search path (-P): see `train.loader.child`.
    command = [sys.executable, "-P", str(_CHILD), str(connection), str(memory), json.dumps(sys.path)]
    return subprocess.Popen(
        command,
        pass_fds=(connection, memory),
        env=_SMALL | dict(os.environ),  # what the user has set stays
        stdin=subprocess.DEVNULL,
    )


def _shared_memory(size: int) -> int:
    """A file descriptor of memory that has no name in any folder, so nothing is left behind by a kill."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pairstream")  # /dev/shm would do, but has 64 MB in many containers
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _end(process: "subprocess.Popen[bytes]", connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()


def _death(process: "subprocess.Popen[bytes]") -> str:
    with suppress(subprocess.TimeoutExpired):  # the socket ends a moment before the process does
        process.wait(5)
    status = process.returncode
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = "; the machine may be out of memory: lower read_ahead_mb" if name == "SIGKILL" else ""
        return f"the loader's worker was ended by {name}{hint}"
    return f"the loader's worker ended with status {status}; its own lines say why"


def _raise(ended: Ended) -> None:
    if ended.error is None:
        return
    if ended.mistake:
        raise ended.mistake(ended.error)
    raise RuntimeError(f"the loader's worker failed:\n{ended.error}")
