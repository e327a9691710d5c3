"""Which of the processes that pack together this one is, by its options or its launcher's variables.

Read once, by `pack.command`; everything below gets numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from recon.base.errors import UserError

_BATCH_STEPS = ("batch", "4294967291")  # SLURM_BATCH_SCRIPT of slurm.h, -5 in 32 bits
_HINT = "pass --rank and --world_size, or --rank 0 --world_size 1 for a process on its own"


@dataclass(frozen=True)
class Rank:
    """One of `world` processes: 0 <= rank < world."""

    rank: int = 0
    world: int = 1

    def within(self, outer: "Rank") -> "Rank":
        """This process, where each of the outer ones is a group of `world` processes."""
        return Rank(outer.rank * self.world + self.rank, outer.world * self.world)


def find_rank(environ: Mapping[str, str]) -> Rank:
    """Rank and world size as torchrun or Slurm tell them, else 0 of 1.

    torchrun goes before a Slurm step, which started torchrun itself then. The tasks of a Slurm array
    are processes each, or groups of processes where they run torchrun or a step of several tasks. The
    script of a job of several tasks is none of them, though Slurm gives it the number of the first: what
    it starts without srun is refused, as nobody would be the others.

    Args:
        environ: the process's environment variables.

    Raises:
        UserError: the variables are incomplete, contradict each other or are no numbers; or this is the
            script of a Slurm job of several tasks and no task.
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
    world = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if environ.get(name)), None)
    return _checked(environ, "SLURM_PROCID", world) if world else None


def _is_batch_script(environ: Mapping[str, str]) -> bool:
    """Whether sbatch's script started this process, not srun: only srun tells a step, and tasks beyond 0."""
    step = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID")
    if step is not None:
        return step in _BATCH_STEPS
    return not environ.get("SLURM_STEP_NUM_TASKS") and environ["SLURM_PROCID"] == "0"


def _refuse_several(environ: Mapping[str, str]) -> None:
    """Refuses the script of several tasks: it is not the first of them, nor knows what was meant."""
    tasks = _number(environ, "SLURM_NTASKS") if environ.get("SLURM_NTASKS") else 1
    if tasks > 1:
        raise UserError(
            f"SLURM_NTASKS={tasks}, but this process is the job's script and no task of a step; start it by "
            f"srun, or {_HINT}"
        )


def _slurm_array(environ: Mapping[str, str]) -> Rank | None:
    if not environ.get("SLURM_ARRAY_TASK_ID"):
        return None
    index, count = _number(environ, "SLURM_ARRAY_TASK_ID"), _number(environ, "SLURM_ARRAY_TASK_COUNT")
    first = _number(environ, "SLURM_ARRAY_TASK_MIN")
    step = _number(environ, "SLURM_ARRAY_TASK_STEP") if environ.get("SLURM_ARRAY_TASK_STEP") else 1
    rank, rest = divmod(index - first, max(step, 1))
    if rest or not 0 <= rank < count:
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={index} of {count} tasks from {first} on is no rank of an array without "
            f"gaps; {_HINT}"
        )
    return Rank(rank, count)


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
        raise UserError(f"{name} is {found}, expected a number, as its launcher sets it; {_HINT}") from None
