"""Keeps two runs out of one bucket: a small object that says whose it is, renewed while that run lives.

A directory needs none, since `RunFolder` locks a file there. Machines' clocks must agree within `AGE_S`.
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

from pack.storage import LocalStore, Retry, Store, open_store
from recon.base.errors import MissingError, UserError

LEASE = "lease.json"

AGE_S = 120.0
"""A lease that was not renewed for so long is that of a dead run: any other may take it."""
RENEW_S = 20.0
"""Seconds between two renewals."""

_LOOKS = 5  # at a lease that other processes change meanwhile
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that writes a run."""

    token: str
    """No other process has it."""
    job: str | None
    """Name of torchrun's job, the same for all its restarts."""
    host: str
    pid: int
    machine: str | None
    """Where `pid` is a process's number: the machine since it was started, and the container."""


def this_process(job: str | None) -> Owner:
    """This process as an owner."""
    machine = None
    with suppress(OSError):  # of systems that have no such files
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    host, token = socket.gethostname(), uuid.uuid4().hex
    return Owner(token=token, job=job, host=host, pid=os.getpid(), machine=machine)


def open_lease(out: str, job: str | None) -> "Lease | None":
    """The lease on a run's URL; None for a directory."""
    store = open_store(out, Retry(deadline_s=AGE_S / 2))
    return None if isinstance(store, LocalStore) else Lease(store, this_process(job))


class Lease:
    """The lease on one bucket's prefix.

    Args:
        store: the prefix.
        owner: who wants it.
        clock: seconds since 1970.
    """

    def __init__(self, store: Store, owner: Owner, clock: Callable[[], float] = time.time) -> None:
        self._store, self._owner, self._clock = store, owner, clock

    def take(self) -> None:
        """Makes the lease ours, if it is free.

        It is where there is none or an old one, and where its run is one that crashed: an earlier start of
        our job, or a process of this machine that is no more.

        Raises:
            UserError: another run has it.
        """
        for _ in range(_LOOKS):
            found = self._read()
            if found and not self._is_free(*found):
                raise self._refusal(*found)
            try:
                self._write(create=found is None)
            except UserError:
                if found or self._read() is None:
                    raise  # no other took it: storage is at fault
            if self._is_ours():  # of two that took an old one, or of a store that can't create only, the last
                return
        raise UserError(f"several runs want {self._store.url} at once; start one of them again")

    def renew(self) -> None:
        """Says that the run lives.

        Raises:
            UserError: another run has taken the lease over; or storage failed.
        """
        found = self._read()
        if found and found[0].token != self._owner.token:
            raise UserError(
                f"{_named(found[0])} has taken {self._store.url} over, as this one gave no sign of life for "
                f"{AGE_S:.0f} s; this one ends and writes no more"
            )
        self._write()

    def release(self) -> None:
        """Ends the lease, if it is still ours."""
        try:
            if self._is_ours():
                self._store.remove(LEASE)
        except UserError as error:
            _LOG.warning("%s stays for %.0f s: %s", f"{self._store.url}/{LEASE}", AGE_S, error)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, a thread renews the lease that was taken; it is released at the end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S):
            with suppress(UserError):  # storage may recover, and of a loss the next checkpoint tells
                self.renew()

    def _is_free(self, owner: Owner, renewed: float) -> bool:
        if abs(self._clock() - renewed) > AGE_S or (owner.job and owner.job == self._owner.job):
            return True
        here = owner.machine is not None and owner.machine == self._owner.machine
        return here and (owner.pid == self._owner.pid or not _lives(owner.pid))

    def _is_ours(self) -> bool:
        found = self._read()
        return found is not None and found[0].token == self._owner.token

    def _read(self) -> tuple[Owner, float] | None:
        """Who has the lease and when it was renewed; None where it is not, or is none of ours."""
        try:
            content = json.loads(self._store.read(LEASE))
            return Owner(**content["owner"]), float(content["renewed"])
        except MissingError:
            return None
        except UserError:
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
            f"{_named(owner)} still trains in {self._store.url}, it said so {ago}; "
            f"wait for it, end it, or choose another --out (a dead one's place is free after {AGE_S:.0f} s)"
        )


def _named(owner: Owner) -> str:
    return f"another run (process {owner.pid} on {owner.host})"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
