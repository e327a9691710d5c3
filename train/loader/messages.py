"""What the trainer and the loader's worker say to each other, and the memory that they share.

Every message carries the number of its loop (one ``for batch in loader``). A trainer may leave a loop and
begin another at once, while messages of the old one are still on their way: both sides ignore those.
"""

import mmap
from dataclasses import dataclass

import numpy as np

from recon.image.codec import Pixels
from train.window.masked_batch import WindowBatch

SLOTS = 4
"""Batches of windows in the shared memory: one being filled, some waiting, one being taken."""


@dataclass(frozen=True)
class Start:
    """To the worker: give the batches of an epoch from a step on."""

    loop: int
    epoch: int
    step: int


@dataclass(frozen=True)
class Free:
    """To the worker: the trainer is done with a slot."""

    loop: int
    slot: int


@dataclass(frozen=True)
class Filled:
    """From the worker: a batch, its windows in a slot."""

    loop: int
    slot: int
    batch: WindowBatch
    """Without its windows: these are not sent but lie in the shared memory."""


@dataclass(frozen=True)
class Ended:
    """From the worker: no batch is left, or none can be made."""

    loop: int
    error: str | None = None
    mistake: bool = False
    """Whether the error is a mistake of the user: shown as one line, without a traceback."""


def memory_size(shape: tuple[int, ...]) -> int:
    """Bytes of the shared memory for windows of a shape."""
    return SLOTS * int(np.prod(shape))


def slots_of(memory: int, shape: tuple[int, ...]) -> list[Pixels]:
    """The windows of each slot, as arrays in the shared memory.

    Args:
        memory: file descriptor of the memory.
        shape: of a batch's windows, uint8.
    """
    mapped = mmap.mmap(memory, 0)
    return list(np.frombuffer(mapped, np.uint8).reshape(SLOTS, *shape))
