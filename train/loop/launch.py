"""What started this process, and which of the processes of a run it is, by its launcher's variables.

Read once, by `train.command`; everything below gets numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from recon.base.errors import UserError

_HINT = "start all ranks by launch/torchrun.sh (or torchrun), or unset it for one process"
_OWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_TORCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHERS = (  # that start processes without torch's variables: the number of a process, of all of them
    ("SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),
    ("OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",)),
    ("PMI_RANK", ("PMI_SIZE",)),
)
_NO_JOB = "none"  # torchrun's name for all jobs that were given none


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What started this process: by default nothing that starts others too."""

    rank: int = 0
    size: int = 1
    """Processes of the run."""
    local_rank: int = 0
    """Among the processes of this node."""
    local_size: int = 1
    """Processes of this node."""
    joins: bool = False
    """Whether a launcher has told where the processes meet (MASTER_ADDR, MASTER_PORT)."""
    nodes: int | None = None
    """How many run the job, as torchrun tells it."""
    job: str | None = None
    """Name of torchrun's job, the same for all its processes and restarts."""
    restarts: int = 0
    """How often torchrun has started this node's processes anew, after one failed."""


def find_launch(environ: Mapping[str, str]) -> Launch:
    """The launch that torch's variables describe, or one of this process alone. An empty one is none.

    Args:
        environ: the process's environment variables.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers; or a launcher
            other than torchrun has started several processes, each of which would be the first.
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
    """Refuses one of several processes that know nothing of each other and would write to one place."""
    for own, totals in _LAUNCHERS:
        total = next((name for name in totals if name in found), None)
        if own in found and total and _number(found, total) > 1:
            raise UserError(
                f"{own}={found[own]} of {total}={found[total]}, but no RANK: each of these processes would "
                "train alone and write to the same place; start one task a node, and in it launch/torchrun.sh"
            )


def _place(found: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int]:
    """A rank and the number of ranks; the first of one where a launcher doesn't tell."""
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
