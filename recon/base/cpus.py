"""How many CPUs this process may use."""

import os


def available_cpus() -> int:
    """The number of CPUs that the system lets this process run on, as set by taskset, cpusets and Slurm.

    SLURM_CPUS_PER_TASK, if set, is an upper limit, because not every cluster binds tasks to their CPUs.
    """
    told = os.environ.get("SLURM_CPUS_PER_TASK", "")
    share = int(told) if told.isascii() and told.isdigit() else 0
    cpus = _system_cpus()
    return max(1, min(cpus, share or cpus))


def _system_cpus() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; PYTHON_CPU_COUNT overrides it
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
