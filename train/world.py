"""The processes of a run: one path for one process, many, CPUs and GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from recon.device import find_device
from recon.errors import UserError

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
def open_world(device: str) -> Iterator[World]:
    """Joins the process group that torchrun's variables describe, or one of this process alone.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: cuda where there is one.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    place = _device(device, local_rank)
    backend = "nccl" if place.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield World(
            rank=rank,
            size=size,
            local_rank=local_rank,
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            device=place,
        )
    except RuntimeError as error:
        if size > 1 and any(words in str(error) for words in _PEER_GONE):
            raise UserError(f"rank {rank} stops: another rank ended; its own line says why") from error
        raise
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    device = find_device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(
            f"local rank {local_rank} has no GPU, {count} found; start at most {count} ranks or device=cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
