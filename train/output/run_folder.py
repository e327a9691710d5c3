"""The log files of a run, in a directory or in a bucket.

In a directory the files are written in place. For a URL they are written in a temporary directory and
uploaded whole. `sync` comes before every checkpoint: a checkpoint stores the lengths of the files, and when
the run continues from it, the files are at least that long.

Objects can't be appended to, so a growing file is uploaded again and again. A line of JSON has about 110
bytes: after a million steps at log_every=10, metrics.jsonl and timing.jsonl have 11 MB each. TensorBoard's
files have three times that, but no checkpoint needs them: they are sent every `BOARD_S` seconds and at
the end.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pack.storage import LocalStore, Store, open_store
from pack.storage.local import lock, refuse_special
from recon.base.errors import UnreachableError, UserError
from recon.base.paths import make_folder
from train.output.lease import BRIEFLY, Lease

METRICS, TIMING, QUARANTINE = "metrics.jsonl", "timing.jsonl", "quarantine.jsonl"
BOARD = "tensorboard"
BOARD_S = 300.0
"""Seconds between two uploads of TensorBoard's files to a bucket."""

# A continued run repeats these lines after its checkpoint, so the old ones are cut off. timing.jsonl keeps
# its lines: they tell how long the repeated steps took.
_REPEATED = (METRICS, QUARANTINE)
_LOG = logging.getLogger(__name__)


class RunFolder:
    """The JSON lines and TensorBoard files of a run; only one process writes them.

    Args:
        out: directory or URL of the run.
        lengths: bytes of the files at the checkpoint that the run continues from: later lines are cut off.
            None for a new run, which begins with empty files.
        lease: on the URL; it is renewed before each upload.
        clock: a monotonic clock in seconds.

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
        self._published: dict[Path, int] = {}  # sizes; files only grow, so an equal size is an equal file
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
            make_folder(self.path)
            for name in (METRICS, TIMING, QUARANTINE):
                self._files[name] = self._open(name, lengths)
        except OSError as error:
            raise UserError(f"can't write the log in {self.path}: {error.strerror or error}") from error
        if self._mirrors:
            self.sync()  # cuts off the lines there too; a lack of permission showed when the lease was taken

    @property
    def board(self) -> Path:
        """The folder of TensorBoard's files."""
        return self.path / BOARD

    def _open(self, name: str, lengths: Mapping[str, int] | None) -> BinaryIO:
        path = self.path / name
        refuse_special(path)
        if lengths is None:
            # Not "wb", which would empty the file of another run before the lock refuses.
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
        """Locks the directory, so that no second run writes there while this process lives."""
        if name != METRICS:
            return
        try:
            _lock(file, self.path)
        except UserError:
            file.close()
            raise

    def append(self, name: str, values: dict[str, Any]) -> None:
        """Adds a line of JSON to a file."""
        try:
            self._files[name].write(json.dumps(values, sort_keys=True).encode() + b"\n")
            self._files[name].flush()  # a killed process loses no line
        except OSError as error:
            raise UserError(
                f"can't write {self.path / name}: {error.strerror}; make room and run again"
            ) from error

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file."""
        return [json.loads(line) for line in (self.path / name).read_text("utf-8").splitlines()]

    def lengths(self) -> dict[str, int]:
        """The size of each file in bytes."""
        return {name: (self.path / name).stat().st_size for name in self._files}

    def sync(self, *, last: bool = False) -> None:
        """Writes all lines to disk, or uploads them to the bucket, so that a crash does not lose them.

        Args:
            last: whether this is the last call, which always uploads TensorBoard's files.

        Raises:
            UserError: the files can't be written, or another run has taken the bucket.
        """
        if self._lease:
            self._lease.renew()  # first: raises if another run now writes there
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
        if data:
            with store.publish(path.name) as file:
                file.write(data)
        elif store.exists(path.name):  # an empty file is no object, which not every store could read again
            store.remove(path.name)
        self._published[path] = len(data)

    def _hurry(self) -> None:
        """Gives the storage little time from now on: the run ends because it was out of reach."""
        self.store, self._board_store = (
            open_store(one.url, BRIEFLY) for one in (self.store, self._board_store)
        )
        if self._lease:
            self._lease.hurry()

    def close(self) -> None:
        """Closes the files; lines after the last checkpoint are uploaded too, also if the run failed."""
        if self._mirrors:
            if isinstance(sys.exception(), UnreachableError):
                self._hurry()
            try:
                self.sync(last=True)
            except UserError as error:  # a warning only: the error that ended the run matters more
                _LOG.warning("the newest lines of the log are lost: %s", error)
        for file in self._files.values():
            with suppress(OSError):  # closing flushes again; for a full disk, `append` has already raised
                file.close()
        if self._mirrors:
            self._temporary.cleanup()


def refuse_running(out: Path) -> None:
    """Looks whether a run lives in a directory, without taking it: before anything is read there, or told.

    Raises:
        UserError: one does.
    """
    path = out / METRICS
    with suppress(OSError), path.open("rb") as file:
        _lock(file, path.parent)


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        lock(file.fileno(), folder)
    except BlockingIOError as error:
        raise UserError(
            f"another process still trains in {folder}; wait for it, end it, or choose another --out"
        ) from error
