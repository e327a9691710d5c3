"""What torchrun, Ray Train or a user's own script tell a rank of a run: RANK, WORLD_SIZE and more."""

import os
from dataclasses import dataclass

from recon.place.variables import Variables

_OWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, kw_only=True)
class Told:
    """A rank by torch's variables."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    nodes: int | None
    """Number of nodes; only torchrun tells it."""


def told_rank(v: Variables, *needed: str) -> Told | None:
    """The rank of this process by torch's variables; None if none of them is set.

    Args:
        v: the environment variables.
        needed: names of variables that a rank must have besides RANK and WORLD_SIZE.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers.
    """
    own = v.first(*_OWN)
    if own is None:
        return None
    if missing := [name for name in ("RANK", "WORLD_SIZE", *needed) if name not in v]:
        raise v.complaint(f"{own}={v.get(own)} is set, but {', '.join(missing)} not")
    rank, size = v.place("RANK", "WORLD_SIZE")
    local_rank, local_size = v.number("LOCAL_RANK", 0), v.number("LOCAL_WORLD_SIZE", 0)
    if local_size:
        v.place("LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Told(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size or local_rank + 1,
        nodes=v.number("GROUP_WORLD_SIZE") if "GROUP_WORLD_SIZE" in v else None,
    )


def local_rank() -> int:
    """The number of this process on its machine, as set by torchrun, Slurm or mpirun; otherwise 0."""
    names = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
    told = (os.environ.get(name) for name in names)
    return next((int(number) for number in told if number and number.isdecimal()), 0)
