"""What launch/torchrun.py asks of torchrun on one node, as the variables of this node tell it.

NNODES, NPROC_PER_NODE, MAX_RESTARTS, RDZV_ID, RDZV_ENDPOINT, RDZV_BACKEND and three that end in _TIMEOUT are
the user's; the same names behind PET_ are torchrun's, which Kubeflow sets; what neither tells, a scheduler
may.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from recon.place.found import PORT, find_group
from recon.place.group import Group, with_port
from recon.place.slurm import refuse_batch_script
from recon.place.variables import Variables, node_range

_BACKENDS = ("c10d", "etcd", "etcd-v2")
_ENDPOINT = re.compile(r"(?P<host>[\w.-]+|\[[\da-fA-F:.]*:[\da-fA-F:.]*\])(:(?P<port>\d+))?")
_LAST_CALL_S = 30  # torch's own: how long MIN nodes wait for more
_HINT = "see the first lines of launch/torchrun.sh"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of a run, or of many processes that pack."""

    nodes: str
    """How many there are: a number, or MIN:MAX."""
    rank: int | None
    """The number of this one; None if the nodes find their order where they meet."""
    by: str
    """The variable that told so."""
    processes: str
    """How many to start here: a number, or auto, gpu or cpu."""
    restarts: int
    join_s: int
    """Seconds to wait for the other nodes at the start."""
    silence_s: int
    """Seconds without a sign of life after which another node counts as gone."""
    rejoin_s: int
    """Seconds to wait for enough nodes once ranks have ended and are to start again."""
    job: str | None = None
    endpoint: str | None = None
    """HOST:PORT of the node where all meet; None for a node on its own."""
    backend: str = "c10d"

    @property
    def is_host(self) -> bool | None:
        """Whether the nodes meet here; None if torchrun has to find it out by the host's name."""
        return None if self.rank is None or self.backend != "c10d" else self.rank == 0

    def options(self, local_address: str | None = None) -> list[str]:
        """The options of torchrun.

        Args:
            local_address: by which the other nodes reach this one; by default torchrun takes the host's name.
        """
        here = ["--nproc-per-node", self.processes, "--max-restarts", str(self.restarts)]
        if self.endpoint is None:
            return ["--standalone", "--nnodes", "1", *here]
        meet = f"join_timeout={self.join_s}"
        if ":" in self.nodes:
            meet += f",last_call_timeout={min(_LAST_CALL_S, self.join_s)}"
        if self.is_host is not None:
            meet += f",is_host={int(self.is_host)}"
        there = ["--nnodes", self.nodes, *here, "--rdzv-id", str(self.job), "--rdzv-backend", self.backend]
        there += ["--rdzv-endpoint", self.endpoint, "--rdzv-conf", meet]
        return there + (["--local-addr", local_address] if local_address else [])

    def told(self, processes: int | str) -> str:
        """The first line of a node's log; `processes` is how many it starts."""
        place = "one node" if self.nodes == "1" else f"a node of {self.nodes} by {self.by}"
        if self.rank is not None and self.nodes != "1":
            place = f"node {self.rank} of {self.nodes} by {self.by}"
        meet = f", rendezvous at {self.endpoint}" if self.endpoint else ""
        return f"{place}, {processes} process{'' if str(processes) == '1' else 'es'}{meet}"


def find_node(environ: Mapping[str, str], *, together: bool) -> Node:
    """Finds the node that this process is to start ranks on.

    Args:
        environ: the process's environment variables.
        together: the ranks of all nodes are one run, and have to meet; otherwise each node is on its own.

    Raises:
        UserError: variables are missing, contradict each other or are of no use.
    """
    v = Variables(environ, _HINT)
    told, group = node_range(v), find_group(v)
    if told is None and group is None:
        refuse_batch_script(v, "SLURM_NNODES")
        _refuse_alone(v)
    nodes = _nodes(v, told, group)
    _refuse_node_rank(v, nodes, group)
    by = group.by if group else "NNODES" if "NNODES" in v else "PET_NNODES"
    node = {
        "nodes": nodes,
        "rank": group.rank if group else None,
        "by": "SLURM_NODEID" if by == "SLURM_PROCID" else by,  # one task a node: they are the same
        "processes": _one_of(
            v, "NPROC_PER_NODE", "auto", r"[1-9]\d*|auto|gpu|cpu", "a number, auto, gpu or cpu"
        ),
        "restarts": int(_one_of(v, "MAX_RESTARTS", "0", r"\d{1,6}", "a number, at most 999999")),
        "join_s": _seconds(v, "RDZV_TIMEOUT", 600),
        "silence_s": _seconds(v, "NODE_TIMEOUT", 45),
        "rejoin_s": _seconds(v, "REJOIN_TIMEOUT", 60),
    }
    if group is None and nodes != "1" and not together:
        raise v.complaint(
            f"{by}={nodes} does not tell which of the nodes this is, and each would pack all; "
            "start each rank by python -m pack --rank R --world_size N"
        )
    if nodes == "1" or not together:
        return Node(**node)  # type: ignore[arg-type]
    return Node(**node, **_meeting(v, nodes, group))  # type: ignore[arg-type]


def _refuse_alone(v: Variables) -> None:
    """Refuses variables of a run of several processes where nothing says how many nodes it has."""
    if "RANK" in v and v.get("WORLD_SIZE") not in (None, "1"):
        raise v.complaint(
            f"RANK={v.get('RANK')} and WORLD_SIZE={v.get('WORLD_SIZE')} say that this process is a rank, and "
            "it would start a run of its own; start python -m train or pack itself, or unset them"
        )
    if found := next((name for name in ("RDZV_ENDPOINT", "RDZV_ID") if name in v), None):
        raise v.complaint(f"{found} is set, but not NNODES, the number of nodes; set it, or unset {found}")


def _refuse_node_rank(v: Variables, nodes: str, group: Group | None) -> None:
    """Refuses NODE_RANK, which is not read, unless it says what is so anyway."""
    number, rank = v.get("NODE_RANK"), group.rank if group else 0 if nodes == "1" else None
    if number in (None, str(rank)):
        return
    if group:
        raise v.complaint(f"NODE_RANK={number}, but {group.by}={rank}, expected the same; unset one")
    raise v.complaint(
        f"NODE_RANK={number} is not read: set PET_NODE_RANK={number}, and NNODES to a number; or unset it"
    )


def _one_of(v: Variables, name: str, default: str, pattern: str, expected: str) -> str:
    value = v.agreed(name, f"PET_{name}") or default
    if not re.fullmatch(pattern, value):
        raise v.complaint(f"{name}={value}, expected {expected}")
    return value


def _seconds(v: Variables, name: str, default: int) -> int:
    return int(_one_of(v, name, str(default), r"[1-9]\d{0,6}", "seconds, at most 9999999"))


def _nodes(v: Variables, told: tuple[int, int] | None, group: Group | None) -> str:
    """The number of nodes as the user and the scheduler say it, who must agree."""
    if group and group.size > group.nodes:
        raise v.complaint(
            f"{group.told} on {group.nodes} node{'s' * (group.nodes > 1)}: each would start all ranks of its "
            "node; start one task a node (srun --ntasks-per-node=1, mpirun --map-by ppr:1:node)"
        )
    if told is None:
        return str(group.size) if group else "1"
    least, most = told
    text = f"{least}:{most}" if least < most else f"{most}"
    if group and not least <= group.size <= most:
        raise v.complaint(f"NNODES={text}, but {group.total}={group.size}, expected the same; unset NNODES")
    return text


def _meeting(v: Variables, nodes: str, group: Group | None) -> dict[str, str]:
    """Where the nodes of a run meet, and by which name they know each other."""
    own = v.get("MASTER_ADDR")
    master = with_port(own, v.port("MASTER_PORT", PORT)) if own else None
    endpoint = v.agreed("RDZV_ENDPOINT", "PET_RDZV_ENDPOINT") or (group and group.endpoint) or master
    job = v.agreed("RDZV_ID", "PET_RDZV_ID") or (group and group.job)
    if not job:
        raise v.complaint(f"NNODES={nodes} needs RDZV_ID, a name of the job, the same on all nodes")
    if not endpoint:
        raise v.complaint(f"NNODES={nodes} needs RDZV_ENDPOINT, HOST:PORT of one of the nodes")
    backend = v.agreed("RDZV_BACKEND", "PET_RDZV_BACKEND") or "c10d"
    if backend == "static":
        backend = "c10d"  # which alone can restart, and finds the same nodes
    found = _ENDPOINT.fullmatch(endpoint)
    host, port = (found["host"], found["port"] or str(PORT)) if found else ("", "")
    labels = host.removesuffix(".").split(".")
    if not 0 < _small(port) < 1 << 16 or not all(0 < len(label) < 64 for label in labels):
        raise v.complaint(
            f"RDZV_ENDPOINT={endpoint}, expected HOST:PORT of one of the nodes, and [ADDRESS]:PORT for IPv6"
        )
    if backend not in _BACKENDS:
        raise v.complaint(f"RDZV_BACKEND={backend}, expected {', '.join(_BACKENDS)}")
    return {"job": job, "endpoint": f"{host}:{port}", "backend": backend}


def _small(digits: str) -> int:
    """A number of few digits; 0 for any other text."""
    return int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) else 0
