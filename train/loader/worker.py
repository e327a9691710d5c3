"""The loader's worker: a process that reads, decodes and cuts beside the trainer.

It is started afresh, never forked, so that threads and CUDA of the trainer can't harm it; windows
lie in memory that both share, everything else goes through a socket. It ignores the signals
that are meant for the trainer, and ends when the trainer does.
"""

import logging
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np

from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.loader.reader import BatchReader, LoaderPlan
from train.window.cutter import WindowBatch

_SLOTS = 4  # batches of windows: being filled, waiting, being taken
_CHILD = """
import signal, sys
for number in {ignored}:  # before the imports: a scheduler may signal the whole process group at any time
    signal.signal(number, signal.SIG_IGN)
sys.path[:] = {path!r}
from train.loader.worker import main
main({connection}, {memory})
"""
_SMALL = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
_ELSEWHERE = np.empty(0, np.uint8)
_FOR_THE_TRAINER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@dataclass(frozen=True)
class _Start:
    """To the worker: give the batches of an epoch from a step on."""

    run: int
    epoch: int
    step: int


@dataclass(frozen=True)
class _Free:
    """To the worker: the trainer is done with a slot."""

    run: int
    slot: int


@dataclass(frozen=True)
class _Filled:
    """From the worker: a batch, its windows in a slot."""

    run: int
    slot: int
    batch: WindowBatch


@dataclass(frozen=True)
class _Ended:
    """From the worker: no batch is left, or none can be made."""

    run: int
    error: str | None = None
    mistake: bool = False
    """Whether the error is the user's to mend."""


class Worker:
    """A worker process, as the trainer sees it.

    Args:
        plan: of the loader.

    Raises:
        UserError: the plan's stages can't be sent.
    """

    def __init__(self, plan: LoaderPlan) -> None:
        packed = _pickled(plan)
        self._shape = plan.window_shape
        memory = _shared_memory(_SLOTS * int(np.prod(self._shape)))
        self._slots = _slots(memory, self._shape)
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        ignored = [int(number) for number in _FOR_THE_TRAINER]
        code = _CHILD.format(ignored=ignored, path=sys.path, connection=theirs.fileno(), memory=memory)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=(theirs.fileno(), memory),
            env=_SMALL | dict(os.environ),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        os.close(memory)
        self._run = 0
        self._close = weakref.finalize(self, _end, self._process, self._connection)
        self._send(packed)

    def batches(self, epoch: int, step: int) -> Generator[WindowBatch, None, None]:
        """The batches from a step of an epoch on; the windows of each hold until the next is asked for.

        Raises:
            UserError: what went wrong in the worker, or that it died.
        """
        self._run = run = self._run + 1
        self._send(pickle.dumps(_Start(run, epoch, step)))
        while True:
            message = self._receive(run)
            if isinstance(message, _Ended):
                return _raise(message)
            yield replace(message.batch, windows_BPHWC=self._slots[message.slot])
            self._send(pickle.dumps(_Free(run, message.slot)))

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # it is dead: receiving says so, after what it still had to say
            self._connection.send_bytes(data)

    def _receive(self, run: int) -> _Filled | _Ended:
        """The next message of this run; those of a run that was given up are passed over."""
        while True:
            try:
                while not self._connection.poll(1.0):
                    if self._process.poll() is not None and not self._connection.poll():
                        raise EOFError
                message: _Filled | _Ended = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError) as error:
                raise UserError(_death(self._process)) from error
            if message.run == run:
                return message

    @property
    def lives(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process."""
        self._close()


def _pickled(plan: LoaderPlan) -> bytes:
    try:
        return pickle.dumps(plan)
    except Exception as error:  # pickle raises nearly anything
        raise UserError(
            f"the stages can't be sent to the loader's worker ({error}); define them in a module of "
            "their own, not inside a function or as a lambda, or use workers=0"
        ) from error


def _shared_memory(size: int) -> int:
    """A file descriptor of memory without a name: nothing is left over, whoever is killed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pairstream")  # not bound by the size of /dev/shm
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _slots(memory: int, shape: tuple[int, ...]) -> list[Pixels]:
    mapped = mmap.mmap(memory, 0)
    return list(np.frombuffer(mapped, np.uint8).reshape(_SLOTS, *shape))


def _end(process: "subprocess.Popen[bytes]", connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()


def _death(process: "subprocess.Popen[bytes]") -> str:
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    status = process.returncode
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = "; the machine may be out of memory: lower read_ahead_mb" if name == "SIGKILL" else ""
        return f"the loader's worker was ended by {name}{hint}"
    return f"the loader's worker ended with status {status}; its own lines say why"


def _raise(ended: _Ended) -> None:
    if ended.error is None:
        return
    if ended.mistake:
        raise UserError(ended.error)
    raise RuntimeError(f"the loader's worker failed:\n{ended.error}")


def main(connection: int, memory: int) -> None:
    """The worker process.

    Args:
        connection: file descriptor of its end of the socket.
        memory: file descriptor of the shared windows.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with suppress(EOFError, OSError):  # the trainer is gone, or done with this loader
        _Service(Connection(connection), memory).serve()
    os._exit(0)  # a thread may hang in a read that nobody waits for


def _end_with(parent: int) -> None:
    """Ends this process when it has lost its parent, whatever its other threads are doing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class _GivenUpError(BaseException):
    """The trainer wants something else by now; no error of the host's, so not to be taken for one."""


class _Service:
    """The worker's side: fills slots as the trainer frees them."""

    def __init__(self, connection: Connection, memory: int) -> None:
        self.connection = connection
        packed = connection.recv_bytes()
        self._wait()
        try:
            plan = _unpickled(packed)
            self.host: BatchReader = BatchReader(plan)
            self.slots = _slots(memory, plan.window_shape)
        except Exception as error:
            self._send(_failed(self.start.run, error))
            raise EOFError from error

    def _wait(self) -> None:
        """Until the trainer wants batches."""
        while not isinstance(message := pickle.loads(self.connection.recv_bytes()), _Start):
            pass
        self.start: _Start = message

    def serve(self) -> None:
        """Run after run, until the trainer closes the connection."""
        while True:
            try:
                self._send(self._run())
            except _GivenUpError:
                continue
            self._wait()

    def _run(self) -> _Ended:
        start, self.free = self.start, list(range(_SLOTS))
        batches = self.host.batches(start.epoch, start.step, self._take, self._listen)
        try:
            for batch in batches:
                self._send(_Filled(start.run, self.taken, replace(batch, windows_BPHWC=_ELSEWHERE)))
        except Exception as error:
            return _failed(start.run, error)
        return _Ended(start.run)

    def _take(self) -> Pixels:
        """The memory of the next batch, once there is a free slot."""
        self._listen()
        while not self.free:
            self._hear()
        self.taken = self.free.pop(0)
        return self.slots[self.taken]

    def _listen(self) -> None:
        """Takes in what the trainer has said so far."""
        while self.connection.poll():
            self._hear()

    def _hear(self) -> None:
        message: _Start | _Free = pickle.loads(self.connection.recv_bytes())
        if isinstance(message, _Start):
            self.start = message
            raise _GivenUpError
        if message.run == self.start.run:
            self.free.append(message.slot)

    def _send(self, message: _Filled | _Ended) -> None:
        self.connection.send_bytes(pickle.dumps(message))


def _unpickled(packed: bytes) -> LoaderPlan:
    try:
        plan: LoaderPlan = pickle.loads(packed)
    except (AttributeError, ImportError) as error:
        raise UserError(
            f"the stages can't be loaded in the loader's worker ({error}); define them in a module of "
            "their own, not in the script that is run, or use workers=0"
        ) from error
    return plan


def _failed(run: int, error: Exception) -> _Ended:
    if isinstance(error, UserError):
        return _Ended(run, str(error), mistake=True)
    return _Ended(run, "".join(traceback.format_exception(error)))
