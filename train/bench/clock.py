"""The time of the stages of a measurement."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Spent:
    """The time that a stage or way has taken so far."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


class Clock:
    """Adds up the time of stages by name; the time of a stage inside of another is not the other's.

    On a thread of the pool, CPU time is that of the thread. On the main thread it is that of the whole
    process, so that torch's own threads count; nothing else runs at that time.

    Args:
        finish: waits until the device has finished its work.
        threads: number of threads in the pool. They work in parallel, so a second of one of them counts as
            1 / threads of a second.
    """

    def __init__(self, finish: Callable[[], None], threads: int = 1) -> None:
        self.stages: dict[str, Spent] = {}
        self._finish, self._threads, self._lock = finish, threads, threading.Lock()
        self._inside = threading.local()  # the time of stages inside of the one that runs on a thread

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Context manager: adds the time inside to the stage."""
        is_main = threading.current_thread() is threading.main_thread()
        cpu = time.process_time if is_main else time.thread_time
        outside, inside = getattr(self._inside, "spent", Spent()), Spent()
        self._inside.spent = inside
        wall_s, cpu_s = time.perf_counter(), cpu()
        yield
        if is_main:
            self._finish()  # GPU kernels run asynchronously
        wall_s, cpu_s = time.perf_counter() - wall_s, cpu() - cpu_s
        outside.wall_s, outside.cpu_s = outside.wall_s + wall_s, outside.cpu_s + cpu_s
        self._inside.spent = outside
        wall_s, cpu_s = wall_s - inside.wall_s, cpu_s - inside.cpu_s
        with self._lock:  # threads of the pool end stages at the same time
            spent = self.stages.setdefault(name, Spent())
            spent.wall_s += wall_s if is_main else wall_s / self._threads
            spent.cpu_s += cpu_s
