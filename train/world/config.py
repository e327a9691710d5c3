"""The options of a run's processes."""

from dataclasses import dataclass

from recon.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """How the processes of a run wait for each other."""

    timeout_s: float = 100.0
    """Seconds that a rank waits for the others in a step; then it ends, and torchrun may start all ranks
    again. A process that dies is noticed at once, and a silent node sooner by launch/torchrun.sh; this is for
    ranks that hang. It must be longer than data.deadline_s, since the other ranks wait for one that waits for
    storage."""
    join_timeout_s: float = 300.0
    """Seconds that a rank waits for all others at the start: some may import for longer."""
    alone_timeout_s: float = 900.0
    """Seconds that the other ranks wait for what rank 0 does alone: choosing pairs by a filter, reading and
    writing checkpoints."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= self.alone_timeout_s:
            both = f"world.timeout_s={self.timeout_s} and world.alone_timeout_s={self.alone_timeout_s}"
            raise UserError(f"{both}, expected more than 0, the second no less than the first")
        if not self.join_timeout_s > 0:
            raise UserError(f"world.join_timeout_s={self.join_timeout_s}, expected more than 0")
