"""What the trainer and the loader's worker say to each other, and the memory that they share.

Every message carries the number of its loop (one ``for batch in loader``). A trainer may leave a loop and
begin another at once, while messages of the old one are still on their way: both sides ignore those.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np

from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.ops.coded import Blocks
from train.window.masked_batch import WindowBatch

SLOTS = 4
"""Batches of windows in the shared memory: one being filled, some waiting, one being taken."""

_NO_WINDOWS, _NO_BLOCKS = np.empty(0, np.uint8), np.empty((0, 64), np.int16)


class Slot(NamedTuple):
    """The memory of a batch."""

    windows_BPHWC: Pixels
    blocks_M64: Blocks
    """Room for the windows that the device decodes."""


class Room(NamedTuple):
    """How large a slot is."""

    windows: tuple[int, ...]
    """(B, P, H, W, C), uint8."""
    blocks: int

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.windows) + 128 * self.blocks

    def slot(self, memory: Pixels | None = None) -> Slot:
        """A slot in bytes of this size, or in new memory."""
        if memory is None:
            return Slot(np.empty(self.windows, np.uint8), np.empty((self.blocks, 64), np.int16))
        windows, blocks = np.split(memory, [prod(self.windows)])
        return Slot(windows.reshape(self.windows), blocks.view(np.int16).reshape(-1, 64))


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
    """Without its windows and blocks: these are not sent but lie in the shared memory."""
    blocks: int
    """How many there are."""

    @staticmethod
    def of(loop: int, slot: int, batch: WindowBatch) -> "Filled":
        """The message of a batch whose windows are in a slot."""
        batch, coded = replace(batch, windows_BPHWC=_NO_WINDOWS), batch.coded
        if coded is None:
            return Filled(loop, slot, batch, 0)
        apart = replace(batch, coded=replace(coded, blocks_M64=_NO_BLOCKS))
        return Filled(loop, slot, apart, len(coded.blocks_M64))

    def whole(self, slots: Sequence[Slot]) -> WindowBatch:
        """The batch with its windows and blocks."""
        slot, coded = slots[self.slot], self.batch.coded
        if coded is not None:
            coded = replace(coded, blocks_M64=slot.blocks_M64[: self.blocks])
        return replace(self.batch, windows_BPHWC=slot.windows_BPHWC, coded=coded)


@dataclass(frozen=True)
class Ended:
    """From the worker: no batch is left, or none can be made."""

    loop: int
    error: str | None = None
    mistake: type[UserError] | None = None
    """The kind of mistake that the error is: shown as one line, without a traceback. None for a fault."""


def slots_of(memory: int, room: Room) -> list[Slot]:
    """The slots in the shared memory.

    Args:
        memory: file descriptor of the memory, of `SLOTS` times the size of a slot.
        room: of each.
    """
    mapped = np.frombuffer(mmap.mmap(memory, 0), np.uint8)
    return [room.slot(part) for part in mapped.reshape(SLOTS, room.size)]
