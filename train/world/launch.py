"""Reads the launcher's environment variables: the rank of this process and the number of ranks.

Only `train.command` reads them, once; all other code gets the numbers as a `Launch`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from recon.base.errors import UserError

_HINT = "start all ranks by launch/torchrun.sh (or torchrun), or unset it for one process"
_OWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_TORCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Launchers that do not set torch's variables: the variable of a process's number, and of their count.
_LAUNCHERS = (
    ("SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),
    ("OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",)),
    ("PMI_RANK", ("PMI_SIZE",)),
)
_NO_JOB = "none"  # torchrun's default: all jobs without --rdzv-id have this name


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How this process was started; the defaults are those of a run with one process."""

    rank: int = 0
    size: int = 1
    """Number of processes of the run."""
    local_rank: int = 0
    """Rank among the processes of this node."""
    local_size: int = 1
    """Number of processes of this node."""
    joins: bool = False
    """Whether the launcher has set the address where the processes meet (MASTER_ADDR, MASTER_PORT)."""
    nodes: int | None = None
    """Number of nodes of the job; None if torchrun does not tell it."""
    job: str | None = None
    """Name of torchrun's job, the same for all its processes and restarts."""
    restarts: int = 0
    """How often torchrun has restarted the processes of this node after one of them failed."""


def find_launch(environ: Mapping[str, str]) -> Launch:
    """Reads the launch from torch's variables; without them this process is the only one of its run.

    Args:
        environ: the process's environment variables; an empty variable counts as not set.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers; or a launcher
            other than torchrun has started several processes, and each would train as rank 0.
    """
    found = {name: value for name, value in environ.items() if value}
    own = [name for name in _OWN if name in found]
    if not own:
        _refuse_copies(found)
        return Launch()
    missing = [name for name in _TORCH if name not in found]
    if missing:
        raise UserError(f"{own[0]}={found[own[0]]} is set, but {', '.join(missing)} not; {_HINT}")
    _number(found, "MASTER_PORT")
    rank, size = _place(found, "RANK", "WORLD_SIZE")
    local_rank, local_size = _place(found, "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    job = found.get("TORCHELASTIC_RUN_ID")
    return Launch(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        joins=True,
        nodes=_number(found, "GROUP_WORLD_SIZE") if "GROUP_WORLD_SIZE" in found else None,
        job=None if job == _NO_JOB else job,
        restarts=_number(found, "TORCHELASTIC_RESTART_COUNT", 0),
    )


def _refuse_copies(found: Mapping[str, str]) -> None:
    """Refuses several processes without a common rank: each would write to the same `out`."""
    for own, totals in _LAUNCHERS:
        total = next((name for name in totals if name in found), None)
        if own in found and total and _number(found, total) > 1:
            raise UserError(
                f"{own}={found[own]} of {total}={found[total]}, but no RANK: each of these processes would "
                "train alone and write to the same place; start one task a node, and in it launch/torchrun.sh"
            )


def _place(found: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int]:
    """A rank and the number of ranks; 0 and 1 if the variables are not set."""
    rank = _number(found, rank_name, 0)
    size = _number(found, size_name, rank + 1)
    if not 0 <= rank < size:
        raise UserError(f"{rank_name}={rank} and {size_name}={size}, expected 0 <= rank < size; {_HINT}")
    return rank, size


def _number(found: Mapping[str, str], name: str, default: int | None = None) -> int:
    if name not in found and default is not None:
        return default
    try:
        return int(found[name])
    except ValueError:
        raise UserError(f"{name}={found[name]!r}, expected a number; {_HINT}") from None
