"""How many CPUs this process may use, and work on threads ahead of the one that needs the results."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cpus() -> int:
    """The number of CPUs that the system lets this process run on, as set by taskset, cpusets and Slurm.

    SLURM_CPUS_PER_TASK, if set, is an upper limit, because not every cluster binds tasks to their CPUs.
    """
    told = os.environ.get("SLURM_CPUS_PER_TASK", "")
    share = int(told) if told.isascii() and told.isdigit() else 0
    cpus = _system_cpus()
    return max(1, min(cpus, share or cpus))


def _system_cpus() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; PYTHON_CPU_COUNT overrides it
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Maps items in their order, at most `depth` of them further than the caller has come.

    Args:
        pool: where `function` runs; one with a single thread of its own does no harm.
        function: may wait and may raise; its error is raised in the place of its result.
        items: taken by the calling thread.
        depth: results that may wait, at least 1.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also where the caller stops early: what has not begun need not be done
        for one in pending:
            one.cancel()
