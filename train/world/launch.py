"""Reads the launcher's environment variables: the rank of this process and the number of ranks.

Only `train.command` and `train.evaluate` read them, once; all other code gets the numbers as a `Launch`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recon.place.found import PORT, find_group
from recon.place.group import Group
from recon.place.ranks import Told, told_rank
from recon.place.slurm import refuse_batch_script
from recon.place.variables import Variables, node_range, several_nodes

_HINT = "start all ranks by launch/torchrun.sh (or torchrun), or unset it for one process"
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
    """Whether this process is to meet others."""
    endpoint: str | None = field(default=None, compare=False)
    """HOST:PORT where the processes meet."""
    nodes: int | None = None
    """Number of nodes of the job; None if torchrun does not tell it."""
    sizes: tuple[int, ...] = ()
    """Other numbers of processes that the run may have later: NNODES=2:4 lets nodes leave and come."""
    job: str | None = None
    """Name of torchrun's job, the same for all its processes and restarts."""
    restarts: int = 0
    """How often torchrun has restarted the processes of this node after one of them failed."""
    max_restarts: int = field(default=0, compare=False)
    """How often torchrun may restart them."""
    by: str | None = field(default=None, compare=False)
    """The variable that told the rank."""

    @property
    def told(self) -> str | None:
        """The first line of the run's log; None for one process on its own."""
        if self.by is None:
            return None
        return f"rank {self.rank} of {self.size} by {self.by}, rendezvous at {self.endpoint}"


def find_launch(environ: Mapping[str, str]) -> Launch:
    """Reads the launch from torch's variables, or from those of srun and mpirun; else this process is alone.

    Args:
        environ: the process's environment variables; an empty variable counts as not set.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers; or several
            processes were started that can't find each other, and each would train as rank 0.
    """
    v = Variables(environ, _HINT)
    if told := told_rank(v, "MASTER_ADDR", "MASTER_PORT"):
        _refuse_separate(v, told)
        return _of_torchrun(v, told)
    group = find_group(v)
    if group is None:
        refuse_batch_script(v, "SLURM_NTASKS")
        _refuse_nodes(v)
    return Launch() if group is None or group.size == 1 else _of_group(v, group)


def _of_torchrun(v: Variables, told: Told) -> Launch:
    job = v.get("TORCHELASTIC_RUN_ID")
    least, most = node_range(v) or (1, 0)
    return Launch(
        rank=told.rank,
        size=told.size,
        local_rank=told.local_rank,
        local_size=told.local_size,
        joins=True,
        endpoint=f"{v.get('MASTER_ADDR')}:{v.port('MASTER_PORT')}",
        by="RANK",
        nodes=told.nodes,
        sizes=tuple(count * told.local_size for count in range(least, most + 1) if told.nodes),
        job=None if job == _NO_JOB else job,
        restarts=v.number("TORCHELASTIC_RESTART_COUNT", 0),
        max_restarts=v.number("TORCHELASTIC_MAX_RESTARTS", 0),
    )


def _of_group(v: Variables, group: Group) -> Launch:
    """A rank of the run that the tasks of srun or mpirun are."""
    endpoint = group.endpoint
    if "MASTER_ADDR" in v:
        endpoint = f"{v.get('MASTER_ADDR')}:{v.port('MASTER_PORT', PORT)}"
    if not group.meets or endpoint is None:
        raise v.complaint(
            f"{group.told}, but no RANK: each of these processes would train alone and write to the same "
            "place; start one task a node, and in it launch/torchrun.sh"
        )
    return Launch(
        rank=group.rank,
        size=group.size,
        local_rank=group.local_rank,
        local_size=group.local_size,
        joins=True,
        endpoint=endpoint,
        job=group.job,
        by=group.by,
    )


def _refuse_nodes(v: Variables) -> None:
    """Refuses a number of nodes without a launcher: each node would train alone, and write to one place."""
    if told := several_nodes(v):
        raise v.complaint(
            f"{told}, but no RANK: this process would train alone; start launch/torchrun.sh on "
            "each node, which joins them"
        )


def _refuse_separate(v: Variables, told: Told) -> None:
    """Refuses a torchrun on each node that has not joined the others; NNODES=1:4 lets one go on alone."""
    least, most = node_range(v) or (0, 0)
    group = find_group(v) if told.nodes == 1 and not least == 1 < most else None
    if group and group.size > 1:
        raise v.complaint(
            f"{group.told}, but this torchrun has joined no other: each of them would train alone and write "
            "to the same place; start launch/torchrun.sh there, which joins them"
        )
