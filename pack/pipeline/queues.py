"""What the threads of a pipeline share: queues with a limit in bytes, and the first failure.

The value that is taken next always finds room, even if it exceeds the limit. So, whatever the sizes are,
some thread can go on and the pipeline can't deadlock. A failure wakes every thread that waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """The pipeline was closed while a thread waited. Ends that thread and never reaches the caller."""


class Shared:
    """The one lock of all queues of a pipeline, and the reason why the pipeline ended."""

    def __init__(self) -> None:
        # One lock for all queues, so that `fail` and `stop` can wake every waiting thread without a race.
        self.lock = threading.Lock()
        self._conditions: list[threading.Condition] = []
        self._failure: BaseException | None = None
        self._stopped = False

    def condition(self) -> threading.Condition:
        """A new condition variable on the shared lock."""
        self._conditions.append(threading.Condition(self.lock))
        return self._conditions[-1]

    @contextmanager
    def when(self, condition: threading.Condition, ready: Callable[[], bool]) -> Iterator[None]:
        """Waits until `ready()` is true, then holds the lock inside the `with` block.

        Whoever makes `ready()` true must notify `condition`.

        Raises:
            BaseException: the error that ended a thread; `StoppedError` after `stop`.
        """
        with self.lock:
            self._check()
            while not ready():  # a loop: another thread may run first after the wake-up
                condition.wait()
                self._check()
            yield

    def fail(self, error: BaseException) -> None:
        """Ends all threads; if several fail, the first error is the one that is raised."""
        with self.lock:
            self._failure = self._failure or error
            self._wake()

    def stop(self) -> None:
        """Ends all threads without an error for the caller."""
        with self.lock:
            self._stopped = True
            self._wake()

    def _wake(self) -> None:
        for condition in self._conditions:
            condition.notify_all()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stopped:
            raise StoppedError


class InOrder(Generic[T]):
    """Values that become ready in any order and are taken in the order of their positions 0, 1, 2...

    Args:
        shared: lock and failure of the pipeline.
        limit: bytes that all values together may hold; the value that is taken next may exceed it.
    """

    def __init__(self, shared: Shared, limit: int = 0) -> None:
        self._shared = shared
        self._limit = limit
        self._ready, self._room = shared.condition(), shared.condition()
        self._values: dict[int, T] = {}
        self._sizes: dict[int, int] = {}  # of all positions admitted or put, until `release`
        self._promised: set[int] = set()
        self._held = 0
        self._head = 0  # the position that `take` returns next
        self._count: int | None = None  # unknown until `end`

    def admit(self, position: int, size: int) -> None:
        """Waits until there is room for `size` more bytes of one value; the next value always has room."""
        with self._shared.when(
            self._room, lambda: position <= self._head or self._held + size <= self._limit
        ):
            self._hold(position, size)

    def promise(self, position: int) -> None:
        """Notes that this value will come even if no other value is let in before it."""
        with self._shared.lock:
            self._promised.add(position)

    def wait_for_room(self) -> None:
        """Waits while more than the limit is held, provided that the next value is there or promised."""
        with self._shared.when(self._room, self._is_open):
            pass

    def _is_open(self) -> bool:
        # If the next value depends on what the caller does now, waiting for room would never end.
        coming = self._head in self._values or self._head in self._promised
        return self._held <= self._limit or not coming

    def put(self, position: int, value: T, size: int = 0) -> None:
        """Hands over a value of `size` bytes in addition to those admitted; never waits."""
        with self._shared.lock:
            self._values[position] = value
            self._hold(position, size)
            if position == self._head:  # nobody waits for a later value
                self._ready.notify_all()

    def end(self, count: int) -> None:
        """Notes how many values there are in all, so that `take` knows the last one."""
        with self._shared.lock:
            self._count = count
            self._ready.notify_all()

    def take(self) -> T | None:
        """Waits for the next value; its bytes are counted until `release`. None after the last value."""
        with self._shared.when(self._ready, lambda: self._head in self._values or self._head == self._count):
            if self._head not in self._values:
                return None
            value = self._values.pop(self._head)
            self._promised.discard(self._head)
            self._head += 1
            # No bytes are free yet, but the value at the new head is now let in whatever its size.
            self._room.notify_all()
            return value

    def release(self, position: int) -> None:
        """Frees the bytes of a value that was taken."""
        with self._shared.lock:
            self._held -= self._sizes.pop(position)
            self._room.notify_all()

    def _hold(self, position: int, size: int) -> None:
        self._sizes[position] = self._sizes.get(position, 0) + size
        self._held += size


class Tasks(Generic[T]):
    """A queue of tasks, first in, first out.

    Args:
        shared: lock and failure of the pipeline.
        limit: bytes in the queue above which `wait_for_room` waits.
    """

    def __init__(self, shared: Shared, limit: int) -> None:
        self._shared = shared
        self._limit = limit
        self._ready, self._room = shared.condition(), shared.condition()
        self._tasks: deque[tuple[T, int]] = deque()
        self._held = 0
        self._ended = False

    def wait_for_room(self) -> None:
        """Waits while more than the limit is held."""
        with self._shared.when(self._room, lambda: self._held <= self._limit):
            pass

    def put(self, task: T, size: int) -> None:
        """Appends a task of `size` bytes; never waits."""
        with self._shared.lock:
            self._tasks.append((task, size))
            self._held += size
            self._ready.notify()

    def end(self) -> None:
        """Notes that no more tasks follow."""
        with self._shared.lock:
            self._ended = True
            self._ready.notify_all()

    def take(self) -> T | None:
        """Waits for the next task; None after the last."""
        with self._shared.when(self._ready, lambda: bool(self._tasks) or self._ended):
            if not self._tasks:
                return None
            task, size = self._tasks.popleft()
            self._held -= size
            self._room.notify_all()
            return task
