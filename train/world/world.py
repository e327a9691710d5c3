"""The processes of a run and their communication: the same code for one or many, on CPUs or GPUs."""

import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Imported before there is a process group: DDP imports it later, and its functions' default arguments
# would then keep that group alive to the end of the process.
import torch.distributed.nn.functional
from torch import nn
from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from recon.base.device import find_device
from recon.base.errors import PeerError, UnreachableError, UserError, message_of
from train.world.config import WorldConfig
from train.world.launch import Launch

_ENDED = (  # of gloo and of torch's store, where a process has ended
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused"),
    *("Failed to recv", "failed to recv", "Failed to send", "failed to send"),
)
_SILENT = (  # where one does not answer
    *("Timed out waiting", "Timed out after", "Connection timed out", "timed out", "wait timeout"),
    *("No route to host", "Socket Timeout"),
)

# torch 2.14 renamed broadcast_buffers. Off: `share_buffers` copies them before each validation.
_NEW_NAME = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
_KEEP_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


@dataclass(frozen=True, kw_only=True)
class World:
    """The rank of this process, the number of ranks, and their collective operations."""

    rank: int
    size: int
    local_rank: int
    """Rank among the processes of this node."""
    local_size: int
    """Number of processes of this node."""
    device: torch.device
    alone_timeout_s: float = WorldConfig.alone_timeout_s
    """Seconds to wait for what rank 0 does alone."""

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the only process that writes files."""
        return self.rank == 0

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all ranks; its shape must be the same on all ranks."""
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total

    def totals(self, mine: Sequence[int]) -> Callable[[], list[int]]:
        """Starts to add up whole numbers over all ranks; the returned function waits for the sums.

        Only the hosts take part, so a GPU goes on with its work meanwhile and is not waited for.
        """
        sums = np.array(mine, np.int64)
        work = dist.all_reduce(torch.from_numpy(sums), async_op=True)
        assert work is not None, "this process is in the group"

        def wait() -> list[int]:
            work.wait()
            return list(map(int, sums))

        return wait

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows (N, ...) of all ranks, joined along the first axis; all ranks have the same shape."""
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def gather_objects(self, mine: Any) -> list[Any]:
        """The objects of all ranks in the order of the ranks; they are pickled, so they should be small."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def any(self, mine: bool) -> bool:
        """Whether `mine` is true on at least one rank."""
        return bool(self.add_up(torch.tensor(float(mine))) > 0)

    def from_first(self, make: Callable[[], bytes | memoryview]) -> bytes | memoryview:
        """Calls `make` on rank 0 and returns its result on every rank; only rank 0 needs storage.

        Raises:
            UserError: `make` raised it on rank 0; every rank raises it, so that no rank waits forever.
        """
        data: bytes | memoryview = b""
        complaint: UserError | None = None
        if self.is_first:
            try:
                data = make()
            except UserError as error:
                complaint = error
        self._wait_for_first()
        # The size and the error go first: the other ranks must know how many bytes to receive.
        head: list[Any] = [len(data), complaint and str(complaint), isinstance(complaint, UnreachableError)]
        dist.broadcast_object_list(head, 0, device=self.device)
        size, text, unreachable = head
        if text is not None:
            raise complaint or (UnreachableError if unreachable else UserError)(text)
        return self._broadcast(data, size)

    def _wait_for_first(self) -> None:
        """Waits until rank 0 has come here; in a step no rank works alone for so long."""
        options = dist.BroadcastOptions()
        options.rootRank, options.timeout = 0, timedelta(seconds=self.alone_timeout_s)
        hosts: Any = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        hosts.broadcast([torch.zeros(1)], options).wait()

    def _broadcast(self, data: bytes | memoryview, size: int) -> bytes | memoryview:
        if not size or self.size == 1:
            return data
        block = torch.empty(size, dtype=torch.uint8)
        if self.is_first:
            # A copy: torch.frombuffer warns about memory that is read-only, as bytes are.
            block = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        block = block.to(self.device)
        dist.broadcast(block, 0)
        return data if self.is_first else block.cpu().numpy().data

    def wrap(self, model: nn.Module) -> DistributedDataParallel:
        """The model under DDP: gradients are averaged over the ranks; each rank keeps its own buffers."""
        on_gpu = self.device.type == "cuda"
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if on_gpu else None,
            # True stops DDP from rebuilding its buckets after step 1. A continued run would rebuild them at
            # another step and add gradients in another order, so its weights would differ in the last bits.
            find_unused_parameters=not on_gpu,
            **_KEEP_BUFFERS,
        )

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every rank the buffers (BatchNorm's statistics) of rank 0."""
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


@contextmanager
def open_world(
    device: str,
    launch: Launch = Launch(),  # noqa: B008  # frozen
    config: WorldConfig = WorldConfig(),  # noqa: B008
) -> Iterator[World]:
    """Context manager: joins the process group of a launch, or makes a group of this process only.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: cuda if there is a GPU.
        launch: how this process was started.
        config: how long the processes wait for each other.

    Raises:
        PeerError: another process of the launch has ended, or does not answer.
    """
    place = _device(device, launch.local_rank, launch.local_size)
    # By where a tensor is: counts are exchanged between the hosts, gradients between the GPUs.
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    wait = timedelta(seconds=config.timeout_s)
    try:
        store = _fresh_store(launch, config) if launch.joins else HashStore()
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=wait)
        yield World(
            rank=launch.rank,
            size=launch.size,
            local_rank=launch.local_rank,
            local_size=launch.local_size,
            device=place,
            alone_timeout_s=config.alone_timeout_s,
        )
    except RuntimeError as error:
        if launch.size > 1 and (told := _of_peer(str(error), config)):
            raise PeerError(f"rank {launch.rank} stops: {told}") from error
        raise
    finally:
        _let_go(sys.exception())
        if dist.is_initialized():
            dist.destroy_process_group()


def _of_peer(text: str, config: WorldConfig) -> str | None:
    """What an error of torch says of another process; None if it is about something else."""
    if any(words in text for words in _ENDED):
        return "another rank ended; see its error"
    if any(words in text for words in _SILENT):
        return (
            f"another rank has not answered for {config.timeout_s:.0f} s (world.timeout_s; "
            f"{config.alone_timeout_s:.0f} s where rank 0 works alone): it hangs, or can't be reached"
        )
    return None


def _let_go(error: BaseException | None) -> None:
    """Drops the last references to the process group: reference cycles, and the frames of an error.

    DDP's reducer holds the group, and a gloo group that outlives `destroy_process_group` keeps its threads.
    If such a thread frees a tensor while the interpreter shuts down, the process aborts (pytorch issue
    190489, PR 179291).
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)  # clears only frames that have ended
        error = error.__cause__ or error.__context__
    gc.collect()


def _fresh_store(launch: Launch, config: WorldConfig) -> Store:
    """A store without the addresses of an earlier start's ranks.

    torchrun keeps one store for all its restarts (pytorch issue 135712), so ranks would try to reach ranks
    that have ended. On one node the number of restarts separates the starts. Several nodes count their
    restarts separately; for them launch/torchrun.py makes torchrun open a new store at each start.
    """
    if launch.endpoint:  # of tasks without torchrun
        os.environ["MASTER_ADDR"], _, os.environ["MASTER_PORT"] = launch.endpoint.rpartition(":")
    _tell_unknown(os.environ.get("MASTER_ADDR", ""), config.join_timeout_s)
    wait = timedelta(seconds=config.join_timeout_s)
    try:
        store: Store = next(rendezvous("env://", launch.rank, launch.size, timeout=wait))[0]
    except RuntimeError as error:
        late = f"not all {launch.size} ranks have come within {config.join_timeout_s:.0f} s"
        told = f"{late} (world.join_timeout_s): {message_of(error)}"
        raise PeerError(f"rank {launch.rank} stops: {told}") from error
    return PrefixStore(str(launch.restarts), store) if launch.nodes == 1 else store


def _tell_unknown(host: str, wait_s: float) -> None:
    """Tells that a name has no address: torch asks for it again and again without a word."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        said = " ".join(str(error).split())
        sys.stderr.write(f"MASTER_ADDR={host} has no address yet ({said}), asking for {wait_s:.0f} s\n")


def _device(name: str, local_rank: int, local_size: int) -> torch.device:
    """The device of this rank. A rank that touches another rank's GPU would hold memory there to the end."""
    if name in ("auto", "cuda") and torch.cuda.is_available():
        if local_rank >= (count := torch.cuda.device_count()):
            found = f"local rank {local_rank} has no GPU, {count} found"
            raise UserError(f"{found}; start at most {count} ranks or device=cpu")
        name = f"cuda:{local_rank}"
    elif name.startswith("cuda:") and local_size > 1:
        raise UserError(f"device={name} is one GPU for {local_size} ranks; pass device=cuda for one each")
    device = find_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
