"""What the threads of a pipeline share: queues bounded in bytes, and the first failure.

A queue never waits for what can't come: the value that is taken next always finds room, so
whatever the sizes, some thread can go on. A failure wakes every thread that waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """The pipeline was closed while a thread waited; ends that thread, and is seen nowhere else."""


class Shared:
    """The lock of a pipeline's queues, and why it ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._conditions: list[threading.Condition] = []
        self._failure: BaseException | None = None
        self._stopped = False

    def condition(self) -> threading.Condition:
        """A condition upon the one lock."""
        self._conditions.append(threading.Condition(self.lock))
        return self._conditions[-1]

    @contextmanager
    def when(self, condition: threading.Condition, ready: Callable[[], bool]) -> Iterator[None]:
        """Holds the lock as soon as `ready`, which has to be announced by `condition`.

        Raises:
            BaseException: what a thread ended with; `StoppedError` after `stop`.
        """
        with self.lock:
            self._check()
            while not ready():
                condition.wait()
                self._check()
            yield

    def fail(self, error: BaseException) -> None:
        """Ends everything; of several errors the first counts."""
        with self.lock:
            self._failure = self._failure or error
            self._wake()

    def stop(self) -> None:
        """Ends everything in silence."""
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
    """Values that get ready in any order, and are taken by their positions 0, 1, 2...

    Args:
        shared: of the pipeline.
        limit: bytes held by all of them, at most, but for the next to be taken.
    """

    def __init__(self, shared: Shared, limit: int = 0) -> None:
        self._shared = shared
        self._limit = limit
        self._ready, self._room = shared.condition(), shared.condition()
        self._values: dict[int, T] = {}
        self._sizes: dict[int, int] = {}
        self._promised: set[int] = set()
        self._held = 0
        self._head = 0
        self._count: int | None = None

    def admit(self, position: int, size: int) -> None:
        """Waits until there is room for `size` bytes more of one value; the next one always has it."""
        with self._shared.when(
            self._room, lambda: position <= self._head or self._held + size <= self._limit
        ):
            self._hold(position, size)

    def promise(self, position: int) -> None:
        """Says that a value comes whether or not others are let in."""
        with self._shared.lock:
            self._promised.add(position)

    def wait_for_room(self) -> None:
        """Waits while more than the limit is held and the next value is there or promised."""
        with self._shared.when(self._room, self._is_open):
            pass

    def _is_open(self) -> bool:
        coming = self._head in self._values or self._head in self._promised
        return self._held <= self._limit or not coming

    def put(self, position: int, value: T, size: int = 0) -> None:
        """Hands over a value, with `size` bytes beside those admitted; never waits."""
        with self._shared.lock:
            self._values[position] = value
            self._hold(position, size)
            if position == self._head:
                self._ready.notify_all()

    def end(self, count: int) -> None:
        """Says how many values there are in all."""
        with self._shared.lock:
            self._count = count
            self._ready.notify_all()

    def take(self) -> T | None:
        """The next value, of which the bytes are held until `release`; None after the last."""
        with self._shared.when(self._ready, lambda: self._head in self._values or self._head == self._count):
            if self._head not in self._values:
                return None
            value = self._values.pop(self._head)
            self._promised.discard(self._head)
            self._head += 1
            self._room.notify_all()
            return value

    def release(self, position: int) -> None:
        """Gives back the bytes of a value."""
        with self._shared.lock:
            self._held -= self._sizes.pop(position)
            self._room.notify_all()

    def _hold(self, position: int, size: int) -> None:
        self._sizes[position] = self._sizes.get(position, 0) + size
        self._held += size


class Tasks(Generic[T]):
    """A queue of tasks, first in, first out.

    Args:
        shared: of the pipeline.
        limit: bytes that wait, at most, before `wait_for_room` waits.
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
        """Says that no task follows."""
        with self._shared.lock:
            self._ended = True
            self._ready.notify_all()

    def take(self) -> T | None:
        """The next task; None after the last."""
        with self._shared.when(self._ready, lambda: bool(self._tasks) or self._ended):
            if not self._tasks:
                return None
            task, size = self._tasks.popleft()
            self._held -= size
            self._room.notify_all()
            return task
