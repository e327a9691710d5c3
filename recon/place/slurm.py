"""What Slurm tells a process: its place among the tasks of a step, or among those of an array."""

import re

from recon.place.group import Group, port_of
from recon.place.variables import Variables

# The step id of a job script: SLURM_BATCH_SCRIPT in slurm.h, which is -5 in 32 bits.
_BATCH_STEPS = ("batch", "4294967291")


def slurm_step(v: Variables) -> Group | None:
    """The tasks that srun has started; None in the script of a job, which is not one of them."""
    # A step may have fewer tasks than its job, so the step's own number comes first.
    total = v.first("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if "SLURM_PROCID" not in v or total is None or is_batch_script(v):
        return None
    rank, size = v.place("SLURM_PROCID", total)
    nodes = v.number(v.first("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"), 1)
    node, local_rank = v.number("SLURM_NODEID", 0), v.number("SLURM_LOCALID", 0)
    job = f"slurm-{v.get('SLURM_JOB_ID')}.{v.get('SLURM_STEP_ID') or 0}" if "SLURM_JOB_ID" in v else None
    hosts = v.first("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    return Group(
        rank=rank,
        size=size,
        by="SLURM_PROCID",
        total=total,
        local_rank=local_rank,
        local_size=_tasks_of(v, node, default=size if nodes == 1 else local_rank + 1),
        nodes=nodes,
        meets=True,
        endpoint=f"{first_host(v.get(hosts) or '')}:{port_of(job)}" if hosts and job else None,
        job=job,
    )


def is_batch_script(v: Variables) -> bool:
    """Whether sbatch's script, not srun, started this process."""
    if (step := v.get("SLURM_STEP_ID") or v.get("SLURM_STEPID")) is not None:
        return step in _BATCH_STEPS
    # Without a step id: only srun sets the number of a step's tasks, and only srun starts tasks after 0.
    return v.get("SLURM_PROCID") == "0" and "SLURM_STEP_NUM_TASKS" not in v


def refuse_batch_script(v: Variables, total: str) -> None:
    """Refuses the script of a job with several tasks, or nodes: the others would not run.

    Raises:
        UserError: this process is such a script, or was started by one without srun.
    """
    if "SLURM_PROCID" in v and is_batch_script(v) and v.number(total, 1) > 1:
        raise v.complaint(
            f"{total}={v.get(total)}, but this process is the job's script, not a task of a step; start it "
            "with srun"
        )


def slurm_array(v: Variables) -> tuple[int, int] | None:
    """The number of an array's task, counted from 0, and how many tasks it has; None outside of arrays.

    Raises:
        UserError: the array has gaps. The first task of 1,5,6 would else be number 0 of 3, alone.
    """
    if "SLURM_ARRAY_TASK_ID" not in v:
        return None
    index, count = v.number("SLURM_ARRAY_TASK_ID"), v.number("SLURM_ARRAY_TASK_COUNT")
    first, step = v.number("SLURM_ARRAY_TASK_MIN"), max(v.number("SLURM_ARRAY_TASK_STEP", 1), 1)
    last = v.number("SLURM_ARRAY_TASK_MAX", first + (count - 1) * step)
    rank, rest = divmod(index - first, step)
    if rest or not 0 <= rank < count or (last - first) // step + 1 != count:
        raise v.complaint(
            f"SLURM_ARRAY_TASK_ID={index} of {count} tasks from {first} on is no rank: expected an array "
            "without gaps"
        )
    return rank, count


def first_host(hosts: str) -> str:
    """The first machine of a list as Slurm writes it: ``gpu[03-07,11],login`` begins with ``gpu03``."""
    first = re.match(r"(?:[^,\[]|\[[^]]*\])*", hosts)
    return re.sub(r"\[(\d+)[^]]*\]", r"\1", first[0] if first else "")


def _tasks_of(v: Variables, node: int, *, default: int) -> int:
    """The number of tasks on a node, out of a list like ``2(x3),1``."""
    counts: list[int] = []
    told = v.first("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", v.get(told or "") or ""):
        counts += [int(count)] * int(times or 1)
    return counts[node] if 0 <= node < len(counts) else default
