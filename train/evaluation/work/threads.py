"""Work on threads ahead of the one that needs the results, and the number of threads within one call."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


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


@contextmanager
def inner_threads(count: int) -> Iterator[None]:
    """Calls of torch from this thread are shared among `count` threads; the number before comes back."""
    before = torch.get_num_threads()
    if count != before:  # setting it anew would end the threads of OpenMP
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


@contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `count` threads, each of which computes alone: torch shares none of its calls.

    Two threads with an image each need less time than two that share one image after the other. OpenMP's
    threads meet several times in each call, and each meeting waits for the slower one: on two cores that
    others used too, `highpass` needed 281 ms of CPU for 500x375 pixels shared, and 78 ms alone.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "score", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # of threads that begin later: torch keeps the newest number for them
