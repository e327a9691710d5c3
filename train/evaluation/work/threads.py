"""The number of threads within one call of torch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


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
