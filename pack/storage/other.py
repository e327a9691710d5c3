"""A store at a URL prefix of any scheme that fsspec knows."""

import os
import time
import uuid
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, TypeVar

from pack.storage.local import temporary_file
from pack.storage.pins import Pins, changed_at, version_of
from pack.storage.retry import Attempts, Retry, TransientError, bounded, settle
from pack.storage.trouble import ends_early, explained, refuse_secrets, taken, uncreated, unopened, warn_once
from recon.base.errors import MissingError, UserError
from recon.base.paths import partial_name
from recon.base.walk import HIDDEN, Files, Leave, tell_nobody

T = TypeVar("T")

_LISTING = 20  # deadlines for listing one folder: a single call may fetch thousands of pages
_PIECE = 8 << 20  # bytes compared at once


class FsspecStore:
    """A URL prefix of any scheme that fsspec knows.

    Reads are exact and retried. fsspec can't demand a version, so `read_range` asks for it after each read.
    """

    def __init__(self, url: str, retry: Retry = Retry()) -> None:  # noqa: B008
        import fsspec

        refuse_secrets(url)
        self.url = url.rstrip("/")
        self.retry = retry
        self.fs, self.root = Attempts(retry).run(  # some filesystems connect at once
            lambda limit_s: bounded(
                lambda: fsspec.core.url_to_fs(self.url), limit_s, lambda error: unopened(error, url)
            ),
            f"can't open {url}",
        )
        self._pins: Pins[tuple[Any, Any]] = Pins()

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        return self._ask(lambda: self._exists(name), name)

    def _exists(self, name: str) -> bool:
        self.fs.invalidate_cache(self.root)  # fsspec caches listings, but other processes write there too
        try:
            return bool(self.fs.info(self._path(name))["type"] == "file")  # isfile() hides all errors
        except FileNotFoundError:
            return False

    def size(self, name: str) -> int:
        """See `Store.size`."""
        return self._ask(lambda: int(self._size(name)), name)

    def _size(self, name: str) -> Any:
        """Size in bytes; None if the server does not tell it."""
        self.fs.invalidate_cache(self.root)
        return self.fs.size(self._path(name))

    def names(self) -> list[str]:
        """See `Store.names`."""
        return sorted(self.times())

    def times(self) -> dict[str, float | None]:
        """See `Store.times`."""
        try:
            return {name: changed_at(entry) for name, entry in self._entries("") if entry["type"] == "file"}
        except MissingError:
            return {}

    def walk(self, links: Container[str] = (), leave: Leave = tell_nobody) -> Files:  # noqa: ARG002  # no links
        """See `Store.walk`. fsspec's own `find` (2026.9) silently leaves out a folder that it can't list."""
        pending, seen = [""], {""}
        while pending:
            for name, entry in self._entries(pending.pop()):
                if "/." in f"/{name}":
                    leave(HIDDEN, name)
                elif name in seen:  # a folder may list itself
                    continue
                elif entry["type"] == "directory":
                    pending.append(name)
                    seen.add(name)
                elif entry["type"] == "file":
                    yield name, entry.get("size")
                else:
                    leave("neither files nor folders", name)

    def _entries(self, folder: str) -> list[tuple[str, dict[str, Any]]]:
        """What lies directly in a folder: the name below the prefix, and fsspec's facts."""
        path = self._path(folder).rstrip("/")

        def ls() -> list[dict[str, Any]]:
            self.fs.invalidate_cache(path)
            entries: list[dict[str, Any]] = self.fs.ls(path, detail=True)
            return entries

        retry = replace(self.retry, deadline_s=self.retry.deadline_s * _LISTING)
        entries = self._ask(ls, folder, verb="list", retry=retry, share=2)
        entries = [one for one in entries if one["type"] == "directory" or not one["name"].endswith("/")]
        names = [one["name"].rstrip("/").removeprefix(self.root).lstrip("/") for one in entries]
        return [(name, one) for name, one in zip(names, entries, strict=True) if name]

    def read(self, name: str, start: int = 0, *, until: float | None = None) -> bytes:
        """See `Store.read`."""
        part = f", bytes {start} to the end"
        return self._ask(lambda: self._read(name, start), name, part, until=until)

    def _read(self, name: str, start: int) -> bytes:
        data = bytes(self.fs.cat_file(self._path(name), start=start or None))
        size = self._size(name)
        if size is not None and len(data) < size - start:
            raise TransientError(f"short data, {len(data)} of {size - start} bytes")
        return data

    def head(self, name: str, length: int) -> bytes:
        """See `Store.head`."""
        return self._ask(lambda: self._head(name, length), name, f", the first {length} bytes")

    def _head(self, name: str, length: int) -> bytes:
        data = bytes(self.fs.cat_file(self._path(name), start=0, end=length))[:length]  # some send all
        if len(data) == length:
            return data
        expected = min(length, int(self._size(name)))
        if len(data) != expected:
            raise TransientError(f"short data, {len(data)} of {expected} bytes")
        return data

    def read_range(self, name: str, start: int, length: int, *, until: float | None = None) -> memoryview:
        """See `Store.read_range`."""
        if not length:  # not every server knows a range of zero bytes
            return memoryview(b"")
        part = f", bytes {start} to {start + length - 1}"
        return self._ask(lambda: self._read_range(name, start, length), name, part, until=until)

    def _read_range(self, name: str, start: int, length: int) -> memoryview:
        data = memoryview(self.fs.cat_file(self._path(name), start=start, end=start + length))
        if len(data) > length:
            raise UserError(
                f"{self.url}/{name}: asked for a part, its server sends the whole object; copy the data to "
                "storage that serves ranges"
            )
        size = self._pinned(name)
        if len(data) == length:
            return data
        found = max(0, int(size) - start)
        if found < length:
            raise ends_early(f"{self.url}/{name}", start, length, found)
        raise TransientError(f"short data, {len(data)} of {length} bytes")

    def _pinned(self, name: str) -> Any:
        """Checks that an object is still the version first read; returns its size as `_size` does."""
        self.fs.invalidate_cache(self.root)
        version = version_of(self.fs.info(self._path(name)), self.url)
        self._pins.check(name, version, f"{self.url}/{name}")
        return version[0]

    def _ask(
        self,
        call: Callable[[], T],
        name: str,
        part: str = "",
        *,
        verb: str = "read",
        retry: Retry | None = None,
        share: int = 4,
        until: float | None = None,
    ) -> T:
        where = f"{self.url}/{name}".rstrip("/")
        return Attempts(retry or self.retry, share, until=until).run(
            lambda limit_s: bounded(call, limit_s, lambda error: explained(error, where, verb)),
            f"can't {verb} {where}{part}",
        )

    @contextmanager
    def publish(self, name: str, *, create: bool = False) -> Iterator[BinaryIO]:
        """See `Store.publish`: written to a local temporary file, then uploaded in one go."""
        with temporary_file() as file:
            yield file
            file.flush()
            where, size = f"{self.url}/{name}", os.fstat(file.fileno()).st_size

            def attempt(limit_s: float) -> None:
                upload = _Upload(self, name, file.name, size, create)
                try:
                    bounded(upload.send, limit_s, lambda error: explained(error, where, "write"))
                except BaseException:
                    upload.give_up()
                    raise

            looked = time.monotonic()
            Attempts(self.retry.for_bytes(size), share=2).run(attempt, f"can't write {where}")
            self._pins.forget(name)
            if create:
                self._look_again(_Upload(self, name, file.name, size, create), name, looked)

    def _look_again(self, upload: "_Upload", name: str, looked: float) -> None:
        """Raises a UserError if another process created the object at the same time, and its own stands."""
        scheme = self.url.partition("://")[0]
        warn_once(uncreated(f"{scheme}://", "has no create-only writing through fsspec"))
        settle(looked)
        with suppress(MissingError):  # the object may have been removed since, as a claim is
            self._ask(upload.is_there, name)

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        with suppress(MissingError):
            self._ask(lambda: self.fs.rm_file(self._path(name)), name, verb="remove")
        self._pins.forget(name)


class _Upload:
    """One attempt to publish a local file. Another thread makes it, and it may be given up at any moment.

    If the filesystem can rename, the file is written under a temporary name and renamed when it is whole.
    An object store needs no rename: it shows an object only after its upload has ended.
    """

    def __init__(self, store: FsspecStore, name: str, file: str, size: int, create: bool) -> None:
        self._store, self._name, self._file, self._size, self._create = store, name, file, size, create
        self._fs = store.fs
        self._partial = partial_name(f"{name}.{uuid.uuid4().hex[:12]}")
        self._given_up = self._begun = False

    def send(self) -> None:
        """Publishes the file, unless this attempt is given up meanwhile.

        Raises:
            UserError: `create` is set, and the object exists with other content.
        """
        if self.is_there():
            return
        self._fs.makedirs(self._store.root, exist_ok=True)
        target = self._store._path(self._name)
        if not _renames(self._fs):
            self._put(target)
            self._check(self._name)
            return
        self._begun = True
        self._fs.put_file(self._file, self._store._path(self._partial))
        self._check(self._partial)
        if self._given_up:
            self._discard()
        elif not self.is_there():  # look again, because mv would replace it
            self._fs.mv(self._store._path(self._partial), target)
            self._check(self._name)

    def give_up(self) -> None:
        """Stops this attempt from publishing and deletes what it has written."""
        self._given_up = True
        if self._begun:
            with suppress(Exception):
                bounded(self._discard, self._store.retry.silence_s)

    def _put(self, target: str) -> None:
        if "memory" in self._fs.protocol:  # this filesystem shows files while they grow
            with open(self._file, "rb") as file:
                self._fs.pipe_file(target, file.read())
        else:
            self._fs.put_file(self._file, target)

    def _check(self, name: str) -> None:
        size = self._store._size(name)
        if size is not None and size != self._size:
            raise TransientError(f"storage holds {size} of {self._size} bytes")

    def _discard(self) -> None:
        self._fs.rm_file(self._store._path(self._partial))

    def is_there(self) -> bool:
        """Whether `create` is set and an equal object exists; a UserError if its content differs."""
        if not self._create or not self._store._exists(self._name):
            return False
        read = partial(self._fs.cat_file, self._store._path(self._name))
        equal = self._store._size(self._name) == self._size
        with open(self._file, "rb") as file:
            for start in range(0, self._size, _PIECE):
                equal = equal and bytes(read(start=start, end=start + _PIECE)) == file.read(_PIECE)
        if not equal:
            raise taken(f"{self._store.url}/{self._name}")
        return True


def _renames(fs: Any) -> bool:
    """Whether a filesystem can really rename; fsspec's default `mv` copies all bytes."""
    from fsspec.spec import AbstractFileSystem

    return type(fs).mv is not AbstractFileSystem.mv
