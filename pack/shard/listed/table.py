"""Very many shards as a table: a file of numpy beside ``dataset.json``, which names it and has its SHA-256.

As JSON a million shards are 244 MB, which took each process 13 s and 1.2 GB. The table has 92 MB, and all
processes of a node map one copy of it in TMPDIR. ``numpy.load`` reads it, too.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pack.shard.listed.entry import ShardEntry, check_entry

_NUMBERS = [("pairs", "<i4"), ("bytes", "<i8"), ("sha256", "V32"), ("index_sha256", "V32")]
_HASHES = ("sha256", "index_sha256")


class ShardTable(Sequence[ShardEntry]):
    """The entries of very many shards; each is made when it is asked for.

    Args:
        rows: (n,) of `of`, in memory or mapped.
        sha256: of the file, if it is known.
        path: of the file that is mapped.
    """

    def __init__(self, rows: NDArray[np.void], sha256: str | None = None, path: str | None = None) -> None:
        self._rows, self._sha256, self.path = rows, sha256, path

    @classmethod
    def of(cls, entries: Iterable[ShardEntry]) -> "ShardTable":
        """The table of some entries."""
        made: list[tuple[Any, ...]] = [
            (one.name.encode(), one.pairs, one.bytes, *map(bytes.fromhex, (one.sha256, one.index_sha256)))
            for one in entries
        ]
        longest = max((len(row[0]) for row in made), default=1)
        return cls(np.array(made, [("name", f"S{longest}"), *_NUMBERS]))

    def to_bytes(self) -> bytes:
        """The file."""
        out = BytesIO()
        np.save(out, self._rows, allow_pickle=False)
        return out.getvalue()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return self._sha256 or hashlib.sha256(self.to_bytes()).hexdigest()

    def column(self, name: str) -> NDArray[Any]:
        """(n,) the numbers of all shards: ``pairs`` (int32) or ``bytes`` (int64)."""
        return np.ascontiguousarray(self._rows[name])

    def heads(self) -> NDArray[np.uint64]:
        """(n,) the first 64 bits of the SHA-256 of each tar."""
        words = np.ascontiguousarray(self._rows["sha256"]).view(">u8").reshape(-1, 4)
        return words[:, 0].astype(np.uint64)

    def __len__(self) -> int:
        """Shards."""
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[ShardEntry, ...]: ...
    def __getitem__(self, number: int | slice) -> ShardEntry | tuple[ShardEntry, ...]:
        """The entry of a shard, or several.

        Raises:
            UserError: its name would lead elsewhere.
        """
        if isinstance(number, slice):
            return tuple(map(_entry, self._rows[number]))
        return _entry(self._rows[number])

    def __iter__(self) -> Iterator[ShardEntry]:
        """All entries."""
        return map(_entry, self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the place where it is mapped, not its rows."""
        if self.path and os.path.exists(self.path):
            return _mapped, (self.path, self._sha256)
        return ShardTable, (np.array(self._rows), self._sha256)


def _entry(row: Any) -> ShardEntry:
    hashes = {name: row[name].tobytes().hex() for name in _HASHES}
    entry = ShardEntry(name=row["name"].decode(), pairs=int(row["pairs"]), bytes=int(row["bytes"]), **hashes)
    check_entry(entry, "the table of shards")
    return entry


def brought(sha256: str, read: Callable[[], bytes]) -> ShardTable:
    """The table of this SHA-256, from the copy that the processes of this node share.

    Args:
        sha256: of the file.
        read: reads it from the storage, if this node has no copy yet; its bytes have this SHA-256.
    """
    folder = Path(tempfile.gettempdir()) / f"pairstream-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.getuid():  # another user could change the file under us
            path = folder / f"{sha256}.npy"
            _copy(path, sha256, read)
            return _mapped(str(path), sha256)
    except OSError:  # no room, or no such folder: it is kept in memory
        pass
    return ShardTable(np.load(BytesIO(read()), allow_pickle=False), sha256)


def _copy(path: Path, sha256: str, read: Callable[[], bytes]) -> None:
    """Writes the copy unless it is there. The lock makes the other processes of the node wait for it."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return
        file.truncate(0)  # what a killed process left; nobody maps it
        try:
            file.write(read())
            file.flush()
        except OSError:
            file.truncate(0)
            raise


def _mapped(path: str, sha256: str) -> ShardTable:
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    return ShardTable(rows.view(np.ndarray), sha256, path)
