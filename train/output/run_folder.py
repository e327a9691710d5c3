"""The files of a run that grow as it goes, in a directory or kept beside a bucket.

A directory is written to directly. For a URL the files live in a temporary directory and are
published whole, so `sync` comes before every checkpoint: the checkpoint knows how long they were, and
finds them at least that long when the run goes on from it.

Since objects can't be appended to, what grows is sent again and again: a line of JSON has some 110 bytes, so
that each of its two files that grow steadily has 11 MB after a million steps at log_every=10. TensorBoard's
have three times that, but no checkpoint needs them: they are sent every `BOARD_S` seconds and at the end.
"""

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pack.storage import LocalStore, Store, open_store
from recon.base.errors import UserError
from train.output.lease import Lease

METRICS, TIMING, QUARANTINE = "metrics.jsonl", "timing.jsonl", "quarantine.jsonl"
BOARD = "tensorboard"
BOARD_S = 300.0
"""Seconds between two uploads of TensorBoard's files to a bucket."""

_REPEATED = (METRICS, QUARANTINE)  # written anew from a checkpoint on; the other keeps what time it took
_LOG = logging.getLogger(__name__)


class RunFolder:
    """The JSON lines and TensorBoard files of a run; one process writes them.

    Args:
        out: directory or URL of the run.
        lengths: bytes of the files at the checkpoint that the run goes on from: what came later is cut
            off. None begins anew.
        lease: on the URL; it is renewed before anything is published.
        clock: seconds that only grow.

    Raises:
        UserError: the directory can't be made or written to.
    """

    def __init__(
        self,
        out: str,
        lengths: Mapping[str, int] | None,
        lease: Lease | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease, self._clock = lease, clock
        self._board_due = clock()
        self._published: dict[Path, int] = {}  # bytes; a file only grows from here on
        self.store: Store = open_store(out)
        self._mirrors = not isinstance(self.store, LocalStore)
        self._board_store = open_store(f"{out.rstrip('/')}/{BOARD}")
        if isinstance(self.store, LocalStore):
            self.path = self.store.root
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="pairstream-")
            self.path = Path(self._temporary.name)
        self._files: dict[str, BinaryIO] = {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (METRICS, TIMING, QUARANTINE):
                self._files[name] = self._open(name, lengths)
        except OSError as error:
            raise UserError(f"can't write the log in {self.path}: {error.strerror or error}") from error
        if self._mirrors:
            self.sync()  # who may not write is told before the first step

    @property
    def board(self) -> Path:
        """Where TensorBoard writes."""
        return self.path / BOARD

    def _open(self, name: str, lengths: Mapping[str, int] | None) -> BinaryIO:
        path = self.path / name
        if lengths is None:
            file = path.open("ab")
            self._lock(name, file)
            file.truncate(0)
            return file
        if self._mirrors and self.store.exists(name):
            path.write_bytes(self.store.read(name))
        file = path.open("ab")
        self._lock(name, file)
        length, found = lengths.get(name, 0), file.tell()
        if found < length:
            _LOG.warning("%s/%s lost %d bytes since the checkpoint", self.store.url, name, length - found)
        elif name in _REPEATED:
            file.truncate(length)
        return file

    def _lock(self, name: str, file: BinaryIO) -> None:
        """Keeps a second run out of the directory for as long as this one lives."""
        if name != METRICS:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise UserError(
                f"another process still trains in {self.path}; wait for it, end it, or choose another --out"
            ) from error

    def append(self, name: str, values: dict[str, Any]) -> None:
        """Adds a line of JSON to a file."""
        try:
            self._files[name].write(json.dumps(values, sort_keys=True).encode() + b"\n")
            self._files[name].flush()
        except OSError as error:
            raise UserError(
                f"can't write {self.path / name}: {error.strerror}; make room and run again"
            ) from error

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What a file holds."""
        return [json.loads(line) for line in (self.path / name).read_text("utf-8").splitlines()]

    def lengths(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: (self.path / name).stat().st_size for name in self._files}

    def sync(self, *, last: bool = False) -> None:
        """Sees to it that what was written outlives this machine's failing: on disk, or in the bucket.

        Args:
            last: nothing will be written after it.

        Raises:
            UserError: it can't be written, or another run has taken the bucket over.
        """
        if self._lease:
            self._lease.renew()
        for name, file in self._files.items():
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise UserError(f"can't write {self.path / name}: {error.strerror}") from error
            if self._mirrors:
                self._publish(self.store, self.path / name)
        if self._mirrors and self.board.is_dir() and (last or self._clock() >= self._board_due):
            for path in sorted(self.board.iterdir()):
                self._publish(self._board_store, path)
            self._board_due = self._clock() + BOARD_S

    def _publish(self, store: Store, path: Path) -> None:
        if self._published.get(path) == path.stat().st_size:
            return
        data = path.read_bytes()
        with store.publish(path.name) as file:
            file.write(data)
        self._published[path] = len(data)

    def close(self) -> None:
        """Ends the files; of a run that failed, what came after its last checkpoint is published too."""
        if self._mirrors:
            try:
                self.sync(last=True)
            except UserError as error:
                _LOG.warning("the newest lines of the log are lost: %s", error)
        for file in self._files.values():
            with suppress(OSError):  # of what a full disk kept back; `append` has said so
                file.close()
        if self._mirrors:
            self._temporary.cleanup()
