"""Where torch runs in this process: the device of a name, CPU threads, random generators, memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recon.base.errors import UserError
from recon.base.memory import keep_freed_memory


def prepare_cpu(threads: int) -> None:
    """Sets the number of torch's CPU threads; makes this process reuse freed memory for the next batch."""
    torch.set_num_threads(threads)
    keep_freed_memory()


# If the CPU's memory runs out, torch raises a plain RuntimeError with one of these two texts.
_CPU_ALLOCATOR = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised `error` because the memory of a GPU or of the CPU ran out.

    The word "memory" alone isn't enough: CUDA's "an illegal memory access" is another fault.
    """
    is_of_gpu = isinstance(error, torch.OutOfMemoryError)
    return is_of_gpu or any(words in str(error) for words in _CPU_ALLOCATOR)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds torch's generators of the CPU and of `device`; `torch.manual_seed` would seed all GPUs."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[_index(device)].manual_seed(seed)


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Restores the states of torch's generators of the CPU and of `device` at the end, of no other GPU."""
    gpus = [_index(device)] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        yield


def _index(device: torch.device) -> int:
    # torch's "cuda" without a number means the current GPU of this thread.
    return torch.cuda.current_device() if device.index is None else device.index


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """Returns the torch device of that name; ``auto`` is cuda if there is a GPU, otherwise cpu.

    Args:
        name: a device of torch, or ``auto``.
        local_rank: number of this process on its machine. It chooses the GPU if `name` gives no number;
            if there are more processes than GPUs, several processes share a GPU.

    Raises:
        UserError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device == torch.device("cuda") and (count := torch.cuda.device_count()):
            device = torch.device("cuda", local_rank % count)
        # Try the device now; reading a value back also refuses devices without values, such as `meta`.
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"device {name!r} can't be used ({cause}); expected auto, cpu or cuda") from error
    return device
