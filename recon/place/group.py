"""Processes that something other than torchrun has started together: tasks, pods, machines of a cluster."""

from dataclasses import dataclass
from zlib import crc32

from recon.place.variables import Variables


@dataclass(frozen=True, kw_only=True)
class Group:
    """One process of a group: 0 <= rank < size."""

    rank: int
    size: int
    by: str
    """The variable that told the rank."""
    total: str
    """The variable that told the size."""
    local_rank: int = 0
    local_size: int = 1
    """Number of processes of the group on this machine."""
    nodes: int
    """Number of machines of the group."""
    meets: bool = False
    """Whether such processes may be the ranks of a run themselves, without torchrun."""
    endpoint: str | None = None
    """HOST:PORT on the first machine of the group; None where nobody tells it."""
    job: str | None = None
    """A name that all processes of the group have, and no other group."""
    processes: str | None = None
    """Ranks that torchrun is to start on a machine, where the scheduler tells it."""

    @property
    def told(self) -> str:
        """The two variables with their values."""
        return f"{self.by}={self.rank} of {self.total}={self.size}"


def port_of(job: str) -> int:
    """A port for a job to meet at: two jobs that share a machine rarely get the same one."""
    return 20_000 + crc32(job.encode()) % 10_000  # below Linux's range for clients


def with_port(host: str, port: int) -> str:
    """HOST:PORT, with brackets around an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def one_a_node(v: Variables, rank: str, total: str, **more: str | None) -> Group:
    """A group whose processes each have a machine, or a pod, to themselves."""
    number, size = v.place(rank, total)
    return Group(rank=number, size=size, by=rank, total=total, nodes=size, **more)  # type: ignore[arg-type]
