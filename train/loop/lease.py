"""The lease on a run's bucket, which rank 0 holds for all ranks."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from pack.storage import LocalStore, open_store
from train.output.lease import Lease, open_lease
from train.output.run_folder import refuse_running
from train.world.launch import Launch
from train.world.world import World


@contextmanager
def held_lease(out: str, world: World, launch: Launch) -> Iterator[Lease | None]:
    """Context manager: rank 0 holds the lease on a bucket's `out`; if it is refused, all ranks raise.

    A directory is only looked at here: `RunFolder` locks it.
    """
    lease = open_lease(out, launch.job) if world.is_first else None

    def take() -> bytes:
        if lease:
            lease.take()
        elif isinstance(folder := open_store(out), LocalStore):
            refuse_running(folder.root)
        return b""

    world.from_first(take)
    with lease.kept() if lease else nullcontext():
        yield lease
