"""Finds the group that this process belongs to, whoever started it."""

from collections.abc import Callable

from recon.place.group import Group, one_a_node, port_of, with_port
from recon.place.slurm import slurm_step
from recon.place.variables import Variables

PORT = 29400
"""Where nodes meet if nothing else is said; torchrun's own choice."""


def find_group(v: Variables) -> Group | None:
    """The group that this process belongs to; None if it was started alone.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers.
    """
    return next((group for find in _KINDS if (group := find(v))), None)


def _kubeflow(v: Variables) -> Group | None:
    """The pods of a TrainJob, or of a PyTorchJob, whose operator sets torchrun's own variables."""
    if "PET_NODE_RANK" not in v:
        return None
    total = v.first("PET_NNODES", "NNODES")
    if total is None:
        raise v.complaint(f"PET_NODE_RANK={v.get('PET_NODE_RANK')}, but PET_NNODES is not set; set both")
    if ":" in (v.get(total) or ""):
        return None  # an elastic run: its nodes find their order where they meet
    v.agreed("JOB_COMPLETION_INDEX", "PET_NODE_RANK")  # a TrainJob's pod has both
    host = v.get("PET_MASTER_ADDR")
    endpoint = with_port(host, v.port("PET_MASTER_PORT", PORT)) if host else None
    return one_a_node(v, "PET_NODE_RANK", total, endpoint=endpoint, job=host)


def _kubernetes(v: Variables) -> Group | None:
    """The pods of an Indexed Job, or of a JobSet with one; Kubernetes does not tell how many there are."""
    if "JOB_COMPLETION_INDEX" not in v:
        return None
    if "NNODES" not in v:
        raise v.complaint(
            f"JOB_COMPLETION_INDEX={v.get('JOB_COMPLETION_INDEX')}, but Kubernetes does not tell of how many "
            "pods: set NNODES to the job's completions"
        )
    if ":" in (v.get("NNODES") or ""):
        return None  # an elastic run: its nodes find their order where they meet
    return one_a_node(v, "JOB_COMPLETION_INDEX", "NNODES")


def _sky(v: Variables) -> Group | None:
    """The machines of a SkyPilot task."""
    if "SKYPILOT_NODE_RANK" not in v:
        return None
    host, job = (v.get("SKYPILOT_NODE_IPS") or "").split(), v.get("SKYPILOT_TASK_ID")
    endpoint = with_port(host[0], PORT) if host else None
    return one_a_node(v, "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES", endpoint=endpoint, job=job)


def _mpi(rank: str, size: str, local_rank: str, local_size: str, job: str) -> Callable[..., Group | None]:
    """What finds the processes of an mpirun by these variables."""

    def find(v: Variables) -> Group | None:
        if rank not in v:
            return None
        number, count = v.place(rank, size)
        here, all_here = v.number(local_rank, 0), max(v.number(local_size, 1), 1)
        name = v.get(job)
        return Group(
            rank=number,
            size=count,
            by=rank,
            total=size,
            local_rank=here,
            local_size=all_here,
            nodes=-(-count // all_here),
            meets=True,
            endpoint=f"127.0.0.1:{port_of(name or rank)}" if all_here == count > 1 else None,
            job=name,
        )

    return find


# The innermost first: mpirun runs inside jobs of Slurm, whose variables are then those of mpirun itself.
_KINDS: tuple[Callable[[Variables], Group | None], ...] = (
    _mpi(
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "PMIX_NAMESPACE",
    ),
    _sky,
    _kubeflow,
    _kubernetes,
    slurm_step,
    _mpi("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_JOBID"),  # MPICH, Intel MPI
)
