"""The worker's side of a loader: fills the shared memory with batches as the trainer frees it."""

import logging
import os
import pickle
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

from recon.base.cli import ignore_odd_metadata
from recon.base.errors import UnreachableError, UserError
from train.loader.messages import SLOTS, Ended, Filled, Free, Slot, Start, slots_of
from train.loader.reader import BatchReader, LoaderPlan


def main(connection: int, memory: int) -> None:
    """The worker process.

    Args:
        connection: file descriptor of its end of the socket.
        memory: file descriptor of the shared windows.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    ignore_odd_metadata()
    with suppress(EOFError, OSError):  # the trainer is gone, or done with this loader
        _Service(Connection(connection), memory).serve()
    os._exit(0)  # a usual exit would join the reading threads, and one may hang in a read


def _end_with(parent: int) -> None:
    """Ends this process when it has lost its parent, whatever its other threads are doing.

    The closed socket says so too, but only to a thread that listens: not while a read hangs.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class _GivenUpError(BaseException):
    """The trainer has started another loop.

    Not an `Exception`, so that no ``except Exception`` on its way takes it for a failure.
    """


class _Service:
    """Answers the trainer's messages.

    Args:
        connection: to the trainer.
        memory: file descriptor of the shared windows.

    Raises:
        EOFError: the plan can't be carried out; the trainer has been told why.
    """

    def __init__(self, connection: Connection, memory: int) -> None:
        self.connection = connection
        packed = connection.recv_bytes()
        # The plan is unpickled after the first start only: an error is the end of a loop, so it needs one.
        self._wait()
        try:
            plan = _unpickled(packed)
            self.host: BatchReader = BatchReader(plan)
            self.slots = slots_of(memory, plan.room)
        except Exception as error:
            self._send(_failed(self.start.loop, error))
            raise EOFError from error

    def _wait(self) -> None:
        """Waits until the trainer starts a loop; slots that it frees meanwhile are of loops that are over."""
        while not isinstance(message := pickle.loads(self.connection.recv_bytes()), Start):
            pass
        self.start: Start = message

    def serve(self) -> None:
        """Serves loop after loop, until the trainer closes the connection."""
        while True:
            try:
                self._send(self._serve_loop())
            except _GivenUpError:
                continue  # `_hear` has taken the next start already
            self._wait()

    def _serve_loop(self) -> Ended:
        # All slots are free: by starting this loop the trainer gave up the windows of the one before.
        start, self.free = self.start, list(range(SLOTS))
        batches = self.host.batches(start.epoch, start.step, self._take, self._listen)
        try:
            for batch in batches:
                self._send(Filled.of(start.loop, self.taken, batch))
        except Exception as error:
            return _failed(start.loop, error)
        return Ended(start.loop)

    def _take(self) -> Slot:
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
        message: Start | Free = pickle.loads(self.connection.recv_bytes())
        if isinstance(message, Start):
            self.start = message
            raise _GivenUpError
        if message.loop == self.start.loop:
            self.free.append(message.slot)

    def _send(self, message: Filled | Ended) -> None:
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


def _failed(loop: int, error: Exception) -> Ended:
    if isinstance(error, UserError):
        return Ended(loop, str(error), _kind_of(error))
    return Ended(loop, "".join(traceback.format_exception(error)))


def _kind_of(error: UserError) -> type[UserError]:
    """The kinds that the trainer tells apart; others may need more than a text."""
    return UnreachableError if isinstance(error, UnreachableError) else UserError
