"""Finds the rank of this process among those that pack together, from its launcher's variables.

Only `pack.command` calls it, once; all other code gets rank and world size as arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recon.place.found import find_group
from recon.place.ranks import told_rank
from recon.place.slurm import refuse_batch_script, slurm_array
from recon.place.variables import Variables, several_nodes

_HINT = "pass --rank and --world_size, or --rank 0 --world_size 1 for a process on its own"


@dataclass(frozen=True)
class Rank:
    """One of `world` processes: 0 <= rank < world."""

    rank: int = 0
    world: int = 1
    by: str = field(default="", compare=False)
    """The variables that told so, the outermost first."""

    def within(self, outer: "Rank") -> "Rank":
        """This process among all, if each outer process is a group of `world` processes."""
        by = " and ".join(filter(None, (outer.by, self.by)))
        return Rank(outer.rank * self.world + self.rank, outer.world * self.world, by)


def find_rank(environ: Mapping[str, str]) -> Rank:
    """Rank and world size from the variables of torchrun or a scheduler, else rank 0 of 1.

    The ranks of a torchrun that has joined several nodes are all there are. Where each node, pod or task has
    a torchrun of its own, as launch/pack.sh starts it, each is a group of ranks. So is each task of a Slurm
    array. The script of a Slurm job with several tasks is not one of them, although Slurm gives it the number
    of the first task. A process that it starts without srun is refused, because no other ranks would run.

    Args:
        environ: the process's environment variables.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers; or this process
            belongs to the script of a Slurm job with several tasks, not to a task; or nothing says which of
            several nodes this is.
    """
    v = Variables(environ, _HINT)
    return _inner(v).within(_array(v))


def _inner(v: Variables) -> Rank:
    told = told_rank(v)
    ours = Rank(told.rank, told.size, "RANK") if told else Rank()
    if told and told.nodes != 1:  # it has joined the nodes, or a user has given each rank its number
        return ours
    group = find_group(v)
    if not told and not group:
        refuse_batch_script(v, "SLURM_NTASKS")
    if not group:
        _refuse_nodes(v)
    return ours.within(Rank(group.rank, group.size, group.by)) if group and group.size > 1 else ours


def _refuse_nodes(v: Variables) -> None:
    """Refuses a number of nodes where nothing says which of them this is: each would pack all."""
    if told := several_nodes(v):
        raise v.complaint(
            f"{told} does not tell which of the nodes this is, and each would pack all; "
            "launch/pack.sh works where a scheduler numbers them"
        )


def _array(v: Variables) -> Rank:
    found = slurm_array(v)
    return Rank(*found, "SLURM_ARRAY_TASK_ID") if found else Rank()
