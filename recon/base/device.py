"""Where torch runs in this process: the device by its name, the CPU's threads and memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recon.base.errors import UserError
from recon.base.memory import keep_freed_memory


def prepare_cpu(threads: int) -> None:
    """Sets torch's CPU threads, and keeps freed memory for the next batch, in this process."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def local_rank() -> int:
    """This process's number among those of its machine, as torchrun or Slurm tells it; else 0."""
    told = (os.environ.get(name) for name in ("LOCAL_RANK", "SLURM_LOCALID"))
    return next((int(number) for number in told if number and number.isdecimal()), 0)


_CPU_ALLOCATOR = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised this because memory ran out: a GPU's, or the CPU's, for which it has no class.

    Other faults speak of memory, too: "an illegal memory access" of CUDA must not pass for this.
    """
    is_of_gpu = isinstance(error, torch.OutOfMemoryError)
    return is_of_gpu or any(words in str(error) for words in _CPU_ALLOCATOR)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds torch's generators of the CPU and of this device; `torch.manual_seed` seeds those of all GPUs."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[_index(device)].manual_seed(seed)


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Puts the states of torch's generators back at the end: the CPU's and this device's, no other GPU's."""
    gpus = [_index(device)] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        yield


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device of that name; ``auto`` takes cuda where there is one, else cpu.

    Args:
        name: a device of torch, or ``auto``.
        local_rank: number of this process on its machine: GPUs without a number of their own are
            dealt by it, in turn where processes outnumber them.

    Raises:
        UserError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device == torch.device("cuda") and (count := torch.cuda.device_count()):
            device = torch.device("cuda", local_rank % count)
        torch.empty(1, device=device).tolist()  # meta, for one, holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"device {name!r} can't be used ({cause}); expected auto, cpu or cuda") from error
    return device
