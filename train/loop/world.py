"""The processes of a run: one path for one process, many, CPUs and GPUs."""

import gc
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist

# DDP imports it, and the defaults of its functions would hold the group of that moment for good.
import torch.distributed.nn.functional
from torch import nn
from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from recon.base.device import find_device
from recon.base.errors import UserError
from train.loop.launch import Launch

_PEER_GONE = ("Connection closed by peer", "Connection reset by peer")  # of gloo

# torch 2.14 renamed broadcast_buffers
_NEW_NAME = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
_KEEP_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the others."""

    rank: int
    size: int
    local_rank: int
    """Among the processes of this node."""
    local_size: int
    """Processes of this node."""
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all ranks, of equal shape everywhere."""
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """All ranks' rows (N, ...), of equal shape everywhere, joined along the first axis."""
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def gather_objects(self, mine: Any) -> list[Any]:
        """Every rank's object (small, to be pickled), in the order of the ranks."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def any(self, mine: bool) -> bool:
        """Whether it is so on at least one rank."""
        return bool(self.add_up(torch.tensor(float(mine))) > 0)

    def from_first(self, make: Callable[[], bytes | memoryview]) -> bytes | memoryview:
        """What `make` returns on rank 0, on every rank: only that one needs storage.

        Raises:
            UserError: that of rank 0, on every rank, so that none waits for it in vain.
        """
        data: bytes | memoryview = b""
        complaint: UserError | None = None
        if self.is_first:
            try:
                data = make()
            except UserError as error:
                complaint = error
        head: list[Any] = [len(data), complaint and str(complaint)]
        dist.broadcast_object_list(head, 0, device=self.device)
        size, text = head
        if text is not None:
            raise complaint or UserError(text)
        return self._broadcast(data, size)

    def _broadcast(self, data: bytes | memoryview, size: int) -> bytes | memoryview:
        if not size or self.size == 1:
            return data
        block = torch.empty(size, dtype=torch.uint8)
        if self.is_first:
            block = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        block = block.to(self.device)
        dist.broadcast(block, 0)
        return data if self.is_first else block.cpu().numpy().data

    def wrap(self, model: nn.Module) -> DistributedDataParallel:
        """The model under DDP: gradients are averaged over ranks, buffers stay each rank's own."""
        on_gpu = self.device.type == "cuda"
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if on_gpu else None,
            find_unused_parameters=not on_gpu,  # no bucket rebuilding after step 1: resume stays bitwise
            **_KEEP_BUFFERS,
        )

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every rank the buffers (BatchNorm's statistics) of rank 0."""
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


@contextmanager
def open_world(device: str, launch: Launch = Launch()) -> Iterator[World]:  # noqa: B008  # frozen
    """Joins the process group of a launch, or makes one of this process alone.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: cuda where there is one.
        launch: what started this process.
    """
    place = _device(device, launch.local_rank, launch.local_size)
    backend = "nccl" if place.type == "cuda" else "gloo"
    store = _fresh_store(launch) if launch.joins else HashStore()
    dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size)
    try:
        yield World(
            rank=launch.rank,
            size=launch.size,
            local_rank=launch.local_rank,
            local_size=launch.local_size,
            device=place,
        )
    except RuntimeError as error:
        if launch.size > 1 and any(words in str(error) for words in _PEER_GONE):
            raise UserError(f"rank {launch.rank} stops: another rank ended; its own line says why") from error
        raise
    finally:
        _let_go(sys.exception())
        dist.destroy_process_group()


def _let_go(error: BaseException | None) -> None:
    """Drops what still holds the process group after its owner did: circles, and the frames of an error.

    DDP's reducer holds the group. A gloo group that outlives `destroy_process_group` keeps its threads; one
    that lets a tensor go while the interpreter ends aborts the process (pytorch issue 190489, PR 179291).
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)  # those that have ended; running ones stay as they are
        error = error.__cause__ or error.__context__
    gc.collect()


def _fresh_store(launch: Launch) -> Store:
    """A store in which no rank of an earlier start left its address.

    torchrun keeps one store for all its restarts (pytorch issue 135712): ranks would try to reach those that
    died. Nodes count restarts each for themselves, so only on one node the number tells starts apart;
    for many, launch/torchrun.py has torchrun open a store a start.
    """
    store: Store = next(rendezvous("env://", launch.rank, launch.size))[0]
    return PrefixStore(str(launch.restarts), store) if launch.nodes == 1 else store


def _device(name: str, local_rank: int, local_size: int) -> torch.device:
    """This rank's device; no rank touches another's GPU, where it would hold memory to the end."""
    if name in ("auto", "cuda") and torch.cuda.is_available():
        if local_rank >= (count := torch.cuda.device_count()):
            found = f"local rank {local_rank} has no GPU, {count} found"
            raise UserError(f"{found}; start at most {count} ranks or device=cpu")
        name = f"cuda:{local_rank}"
    elif name.startswith("cuda:") and local_size > 1:
        raise UserError(f"device={name} is one GPU for {local_size} ranks; pass device=cuda, one GPU a rank")
    device = find_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
