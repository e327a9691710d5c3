"""Finds the rank of a task of a Slurm array that has only some of the tasks: those that are left to do."""

from collections.abc import Mapping

from pack.plan.ranks import Rank, find_rank
from recon.base.errors import UserError

_ID = "SLURM_ARRAY_TASK_ID"


def rank_of_index(environ: Mapping[str, str], world: int) -> Rank:
    """The rank that the task's index says, of `world` ranks in all.

    Slurm counts the tasks that were submitted, so an array with gaps does not tell how many ranks there were:
    --world_size does. A task that is a group of processes has as many successive ranks.

    Args:
        environ: the process's environment variables.
        world: ranks of all tasks, submitted or not.

    Raises:
        UserError: this is no task of an array, or `world` is not of its kind.
    """
    index = environ.get(_ID, "")
    if not index.isdecimal():
        raise UserError(
            f"world_size={world} without rank, and {_ID} is {index or 'not set'}: expected both or neither, "
            "or a Slurm array of the ranks that are left, as python -m pack.status says"
        )
    rest = {name: value for name, value in environ.items() if not name.startswith("SLURM_ARRAY_")}
    inner = find_rank(rest)
    tasks, odd = divmod(world, inner.world)
    if odd or int(index) >= tasks:
        raise UserError(
            f"{_ID}={index} with {inner.world} processes a task is not among {world} ranks; --world_size is "
            "the number of all ranks of the first run"
        )
    return inner.within(Rank(int(index), tasks))
