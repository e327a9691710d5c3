"""The lease: a small object in a run's bucket that names the run's process and keeps other runs out.

A run renews its lease while it lives. A directory needs no lease, because `RunFolder` locks a file there.
The clocks of the machines must agree within `AGE_S`.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pack.storage import LocalStore, Retry, Store, open_store, settle
from recon.base.errors import MissingError, UnreachableError, UserError

LEASE = "lease.json"

AGE_S = 120.0
"""Seconds without a renewal after which a run counts as dead; then any other run may take its lease."""
RENEW_S = 20.0
"""Seconds between two renewals."""

BRIEFLY = Retry(deadline_s=5)
"""For what a run still writes when it ends because storage was out of reach."""

_LOOKS = 5  # attempts to take a lease that other processes change at the same time
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that writes a run."""

    token: str
    """A random name that only this process has."""
    job: str | None
    """Name of torchrun's job, the same for all its restarts."""
    host: str
    pid: int
    machine: str | None
    """Where `pid` is valid: the boot of the machine, and the container. None if the system does not tell."""


def this_process(job: str | None) -> Owner:
    """The owner that stands for this process."""
    machine = None
    with suppress(OSError):  # only Linux has these files
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    host, token = socket.gethostname(), uuid.uuid4().hex
    return Owner(token=token, job=job, host=host, pid=os.getpid(), machine=machine)


def open_lease(out: str, job: str | None) -> "Lease | None":
    """The lease on a run's URL; None for a directory."""
    # A request must end well before the lease is too old, or a slow one would lose it.
    store = open_store(out, Retry(deadline_s=AGE_S / 2))
    return None if isinstance(store, LocalStore) else Lease(store, this_process(job))


class Lease:
    """The lease on one prefix of a bucket.

    Args:
        store: the prefix.
        owner: the process that wants the lease.
        clock: returns seconds since 1970.
    """

    def __init__(self, store: Store, owner: Owner, clock: Callable[[], float] = time.time) -> None:
        self._store, self._owner, self._clock = store, owner, clock
        self._join_s: float | None = None

    def take(self) -> None:
        """Takes the lease, if it is free.

        It is free if there is none, if it is older than `AGE_S`, or if its run has crashed: an earlier start
        of this job, or a process of this machine that no longer exists.

        Raises:
            UserError: another run has the lease.
        """
        for _ in range(_LOOKS):
            looked, found = time.monotonic(), self._read()
            if found and not self._is_free(*found):
                raise self._refusal(*found)
            try:
                self._write(create=found is None)
            except UserError:
                if found or self._read() is None:
                    raise  # no other process created it, so storage has failed
            # Read again: two processes may replace an old lease at the same time. The last one has it.
            # (Of two that create one, the store refuses one.)
            if found:
                settle(looked)
            if self._is_ours():
                return
        raise UserError(f"several runs want {self._store.url} at once; start one of them again")

    def renew(self) -> None:
        """Writes the current time into the lease: the run lives.

        Raises:
            UserError: another run has taken the lease, or storage failed.
        """
        found = self._read()
        if found and found[0].token != self._owner.token:
            raise UserError(
                f"{_named(found[0])} has taken {self._store.url} over, because this run did not renew its "
                f"lease for {AGE_S:.0f} s; this run ends and writes no more"
            )
        self._write()

    def release(self) -> None:
        """Removes the lease, if this process still has it."""
        try:
            if self._is_ours():
                self._store.remove(LEASE)
        except UserError as error:
            _LOG.warning("%s stays valid for %.0f s: %s", f"{self._store.url}/{LEASE}", AGE_S, error)

    def hurry(self) -> None:
        """From now on the storage gets little time: it has just been out of reach, and this run ends."""
        self._store, self._join_s = open_store(self._store.url, BRIEFLY), BRIEFLY.deadline_s

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Context manager: inside, a thread renews the lease that was taken; at the end it is released."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        except UnreachableError:
            self.hurry()
            raise
        finally:
            ended.set()
            thread.join(self._join_s)  # before the release: a late renewal would write the lease again
            self.release()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S):
            with suppress(UserError):  # storage may recover; if the lease is lost, the next `sync` raises
                self.renew()

    def _is_free(self, owner: Owner, renewed: float) -> bool:
        # abs: a time in the future comes from a wrong clock and would keep the lease for too long.
        if abs(self._clock() - renewed) > AGE_S or (owner.job and owner.job == self._owner.job):
            return True
        here = owner.machine is not None and owner.machine == self._owner.machine
        # Our own pid: the lease is an earlier one of this process, or of a dead one that had the same pid.
        return here and (owner.pid == self._owner.pid or not _lives(owner.pid))

    def _is_ours(self) -> bool:
        found = self._read()
        return found is not None and found[0].token == self._owner.token

    def _read(self) -> tuple[Owner, float] | None:
        """The owner of the lease and the time of its last renewal; None if there is no lease."""
        try:
            content = json.loads(self._store.read(LEASE))
            return Owner(**content["owner"]), float(content["renewed"])
        except MissingError:
            return None
        except UserError:  # also a ValueError, but it tells a failure of storage
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._store.url}/{LEASE} is not of this version; delete it if no run writes there"
            ) from error

    def _write(self, *, create: bool = False) -> None:
        content = {"owner": asdict(self._owner), "renewed": self._clock()}
        with self._store.publish(LEASE, create=create) as file:
            file.write(json.dumps(content).encode())

    def _refusal(self, owner: Owner, renewed: float) -> UserError:
        ago = f"{self._clock() - renewed:.0f} s ago"
        return UserError(
            f"{_named(owner)} still trains in {self._store.url}, its last sign of life was {ago}; wait for "
            f"it, end it, or choose another --out (the lease of a dead run ends after {AGE_S:.0f} s)"
        )


def _named(owner: Owner) -> str:
    return f"another run (process {owner.pid} on {owner.host})"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process exists, but belongs to another user
        return True
    return True
