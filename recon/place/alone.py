"""For commands of one process: refuses to be one of several that were started together."""

from collections.abc import Mapping

from recon.place.found import find_group
from recon.place.ranks import told_rank
from recon.place.variables import Variables


def refuse_ranks(environ: Mapping[str, str], command: str) -> None:
    """Refuses ranks of torchrun, srun, mpirun and the like: each would do all the work, and write it.

    Args:
        environ: the process's environment variables; an empty variable counts as not set.
        command: as the user types it.

    Raises:
        UserError: this is one of several processes, or the variables contradict each other.
    """
    v = Variables(environ, f"{command} is one process: start it without torchrun or srun, or unset it")
    told = told_rank(v)
    if told and told.size > 1:
        raise v.complaint(f"RANK={told.rank} and WORLD_SIZE={told.size} make this one of several processes")
    group = None if told else find_group(v)
    if group and group.size > 1:
        raise v.complaint(f"{group.told} makes this one of several processes")
