"""From batches of windows on the host to batches of images on the trainer's device.

On a GPU, the next batch is copied through pinned memory and augmented on a stream of its own, while the
trainer's stream works on the batch before it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pack.dataset.pairs import DamagedPair
from train.augment.pipeline import PairAugment
from train.ops.coded import FACTS, CodedWindows
from train.ops.decode import decode
from train.window.masked_batch import WindowBatch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A rank's share of one step. P = (real, fake), V = `AugmentConfig.views`, by default 1.

    B rows: V for each slot, side by side. Row b * V + v is view v of slot b: another crop of the same pair,
    by other draws. ``images[mask].unflatten(0, (-1, V))`` has the valid pairs in its first axis and their
    views in its second.
    """

    images: torch.Tensor
    """(B, P, 3, H, W) uint8 RGB on the loader's device; zeros where masked."""
    valid: torch.Tensor
    """(n, P, 3, H, W) the valid rows: ``images[mask]``, but without waiting for a GPU."""
    mask: torch.Tensor
    """(B,) bool on the loader's device: False in all rows of a slot for which the epoch had no pair left, or
    a damaged one."""
    keys: list[str]
    """Keys of the valid pairs, in the order of ``images[mask]``: one for each V rows."""
    changed: torch.Tensor | None = None
    """(B, H, W) uint8 on the loader's device: the crops of the samples' mask images, which mark changed
    pixels; 255 everywhere for a pair without one. None if no dataset of the loader has masks."""
    damaged: list[DamagedPair] = field(default_factory=list)
    """Pairs whose slots are masked because they are damaged in the storage, each once."""


class Transfer:
    """Moves batches to a device and augments them there.

    Args:
        augment: what is left to be done with the windows; None takes them as they are.
        device: where the images end up.
    """

    def __init__(self, augment: PairAugment | None, device: torch.device) -> None:
        self._augment, self.device = augment, device

    def __call__(self, epoch: int, batches: Iterable[WindowBatch]) -> Iterator[Batch]:
        """Yields the batches of an epoch; on a GPU, each one while the next is on its way."""
        if self.device.type == "cuda":
            return self._ahead(epoch, batches)
        return (self._one(epoch, batch) for batch in batches)

    def _ahead(self, epoch: int, batches: Iterable[WindowBatch]) -> Iterator[Batch]:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        before: tuple[Batch, torch.cuda.Event] | None = None
        for host in batches:
            # All of this only queues work. The host does not wait for the GPU, so the batch before is
            # handed over while this one is copied.
            with torch.cuda.stream(stream):
                following = self._one(epoch, host), stream.record_event()
            if before is not None:
                yield self._handed_over(*before)
            before = following
        if before is not None:
            yield self._handed_over(*before)

    def _handed_over(self, batch: Batch, done: torch.cuda.Event) -> Batch:
        """The batch for the trainer's stream, which waits until the batch is done."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(done)
        given = [batch.images, batch.valid, batch.mask]
        for tensor in given if batch.changed is None else [*given, batch.changed]:
            # The memory belongs to our stream. Without this, the allocator would give it to the next batch as
            # soon as Python drops the tensor, though the trainer's stream may still read it.
            tensor.record_stream(current)
        return batch

    @torch.autograd.profiler.record_function("transfer")
    def _one(self, epoch: int, batch: WindowBatch) -> Batch:
        windows, mask = self._windows(batch), self._moved(torch.from_numpy(batch.mask_B))
        if batch.mask_B.all():
            images = valid = self._images(epoch, windows, batch, slice(None))
        else:  # masked slots have no draws and no size: only the valid rows are augmented
            rows = np.flatnonzero(batch.mask_B)
            index = self._moved(torch.from_numpy(rows))
            valid = self._images(epoch, windows.index_select(0, index), batch, rows)
            images = valid.new_zeros((len(windows), *valid.shape[1:])).index_copy_(0, index, valid)
        changed = None
        if batch.changed_BHW is not None:
            changed = self._moved(torch.from_numpy(batch.changed_BHW))
        return Batch(
            images=images,
            valid=valid,
            mask=mask,
            keys=batch.keys,
            changed=changed,
            damaged=batch.damaged,
        )

    def _windows(self, batch: WindowBatch) -> torch.Tensor:
        """(B, P, H, W, C) the windows on the device; anything where masked, if some are decoded there."""
        host = torch.from_numpy(batch.windows_BPHWC)
        if batch.coded is None:
            return self._moved(host)
        rows, decoded = self._decoded(batch.coded, host.shape[2])
        windows = decoded.new_empty(host.shape)
        windows.flatten(0, 1).index_copy_(0, rows, decoded)
        sent = np.repeat(batch.mask_B, 2)
        sent[batch.coded.facts_N["row"]] = False
        if sent.any():  # those that the host has decoded, and no others
            rows = torch.from_numpy(np.flatnonzero(sent))
            pixels = self._moved(host.flatten(0, 1).index_select(0, rows))
            windows.flatten(0, 1).index_copy_(0, self._moved(rows), pixels)
        return windows

    def _decoded(self, coded: CodedWindows, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers (N,) of windows in the batch, and the windows (N, H, W, C), on the device."""
        arrays = (coded.blocks_M64, coded.steps_N364, coded.table())
        blocks_M64, steps_N364, facts_NF = (self._moved(torch.from_numpy(array)) for array in arrays)
        assert FACTS.names
        rows = facts_NF[:, FACTS.names.index("row")]
        return rows, decode(blocks_M64, steps_N364, facts_NF, side)

    def _images(
        self, epoch: int, windows: torch.Tensor, batch: WindowBatch, rows: slice | NDArray[np.int64]
    ) -> torch.Tensor:
        """(n, P, C, H, W) what becomes of the windows of some rows."""
        if self._augment is None:
            return windows.movedim(-1, 2).contiguous()
        return self._augment(epoch, windows, batch.ids_B[rows], batch.frames_B[rows], batch.grey_BP[rows])

    def _moved(self, host: torch.Tensor) -> torch.Tensor:
        """The same values on the device.

        On a CPU this is still the memory shared with the worker; the augmentation, or `contiguous` after
        `movedim`, makes a copy before the slot is given back.
        """
        if self.device.type != "cuda":
            return host
        # `copy_` has read the shared memory when it returns. The copy to the GPU has not, so it must not read
        # from there: the slot is given back meanwhile.
        pinned = torch.empty_like(host, pin_memory=True).copy_(host)
        return pinned.to(self.device, non_blocking=True)
