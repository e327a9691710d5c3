"""Finds the rank of this process among those that pack together, from its launcher's variables.

Only `pack.command` calls it, once; all other code gets rank and world size as arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from recon.base.errors import UserError

# The step id of a job script: SLURM_BATCH_SCRIPT in slurm.h, which is -5 in 32 bits.
_BATCH_STEPS = ("batch", "4294967291")
_HINT = "pass --rank and --world_size, or --rank 0 --world_size 1 for a process on its own"


@dataclass(frozen=True)
class Rank:
    """One of `world` processes: 0 <= rank < world."""

    rank: int = 0
    world: int = 1

    def within(self, outer: "Rank") -> "Rank":
        """This process among all, if each outer process is a group of `world` processes."""
        return Rank(outer.rank * self.world + self.rank, outer.world * self.world)


def find_rank(environ: Mapping[str, str]) -> Rank:
    """Rank and world size from the variables of torchrun or Slurm, else rank 0 of 1.

    torchrun's variables go before those of a Slurm step, because then the step has started torchrun. Each
    task of a Slurm array is one process, or a group of processes if it runs torchrun or a step of several
    tasks. The script of a job with several tasks is not one of them, although Slurm gives it the number of
    the first task. A process that it starts without srun is refused, because no other ranks would run.

    Args:
        environ: the process's environment variables.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers; or this process
            belongs to the script of a Slurm job with several tasks, not to a task.
    """
    inner = _torchrun(environ) or _slurm_step(environ) or Rank()
    return inner.within(_slurm_array(environ) or Rank())


def _torchrun(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("RANK") and not environ.get("WORLD_SIZE"):
        return None
    return _checked(environ, "RANK", "WORLD_SIZE")


def _slurm_step(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("SLURM_PROCID"):
        return None
    if _is_batch_script(environ):
        _refuse_several(environ)
        return None
    # A step may have fewer tasks than its job, so the step's own number comes first.
    world = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if environ.get(name)), None)
    return _checked(environ, "SLURM_PROCID", world) if world else None


def _is_batch_script(environ: Mapping[str, str]) -> bool:
    """Whether sbatch's script, not srun, started this process."""
    step = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID")
    if step is not None:
        return step in _BATCH_STEPS
    # Without a step id: only srun sets the number of a step's tasks, and only srun starts tasks after 0.
    return not environ.get("SLURM_STEP_NUM_TASKS") and environ["SLURM_PROCID"] == "0"


def _refuse_several(environ: Mapping[str, str]) -> None:
    """Refuses the script of a job with several tasks: it is no task, and the user's aim is not clear."""
    tasks = _number(environ, "SLURM_NTASKS") if environ.get("SLURM_NTASKS") else 1
    if tasks > 1:
        raise UserError(
            f"SLURM_NTASKS={tasks}, but this process is the job's script, not a task of a step; start it "
            f"with srun, or {_HINT}"
        )


def _slurm_array(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("SLURM_ARRAY_TASK_ID"):
        return None
    index, count = _number(environ, "SLURM_ARRAY_TASK_ID"), _number(environ, "SLURM_ARRAY_TASK_COUNT")
    first = _number(environ, "SLURM_ARRAY_TASK_MIN")
    step = _number(environ, "SLURM_ARRAY_TASK_STEP") if environ.get("SLURM_ARRAY_TASK_STEP") else 1
    rank, rest = divmod(index - first, max(step, 1))
    if rest or not 0 <= rank < count or _array_has_gaps(environ, first, step, count):
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={index} of {count} tasks from {first} on is no rank: expected an array "
            f"without gaps; {_HINT}"
        )
    return Rank(rank, count)


def _array_has_gaps(environ: Mapping[str, str], first: int, step: int, count: int) -> bool:
    """Whether an array leaves numbers out. The first task of 1,5,6 would else pack as rank 0 of 3, alone."""
    if not environ.get("SLURM_ARRAY_TASK_MAX"):
        return False
    return (_number(environ, "SLURM_ARRAY_TASK_MAX") - first) // max(step, 1) + 1 != count


def _checked(environ: Mapping[str, str], rank_name: str, world_name: str) -> Rank:
    rank, world = _number(environ, rank_name), _number(environ, world_name)
    if not 0 <= rank < world:
        raise UserError(f"{rank_name}={rank} and {world_name}={world}, expected 0 <= rank < world; {_HINT}")
    return Rank(rank, world)


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ.get(name, ""))
    except ValueError:
        found = repr(environ[name]) if name in environ else "not set"
        raise UserError(f"{name} is {found}, expected a number from its launcher; {_HINT}") from None
