"""URL prefixes of any scheme that fsspec knows."""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pack.storage.local import temporary_file
from pack.storage.retry import Attempts, Retry, TransientError, bounded
from pack.storage.trouble import ends_early, refuse_secrets, taken, without_secrets, writing
from recon.base.errors import MissingError, UserError

T = TypeVar("T")

_LISTING = 20  # deadlines that listing one folder may take: it may be thousands of pages in one call
_FINAL = (NotImplementedError, TypeError, ValueError, AttributeError, ImportError)  # time mends none of these


class FsspecStore:
    """A URL prefix of any scheme that fsspec knows.

    Its reads are exact and retried, but not pinned: asking for a version would cost a request a read.
    """

    def __init__(self, url: str, retry: Retry = Retry()) -> None:  # noqa: B008
        import fsspec

        refuse_secrets(url)
        self.url = url.rstrip("/")
        self.retry = retry
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise UserError(f"can't open {url}: {without_secrets(error)}") from None

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        return self._ask(lambda: self._exists(name), name)

    def _exists(self, name: str) -> bool:
        try:
            return bool(self.fs.info(self._path(name))["type"] == "file")  # isfile() takes any failure for no
        except FileNotFoundError:
            return False

    def size(self, name: str) -> int:
        """See `Store.size`."""
        return self._ask(lambda: int(self.fs.size(self._path(name))), name)

    def names(self) -> list[str]:
        """See `Store.names`."""
        return self._ask(self._names, "")

    def _names(self) -> list[str]:
        self.fs.invalidate_cache(self.root)
        try:
            entries = self.fs.ls(self.root, detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file")

    def walk(self, links: Container[str] = ()) -> Iterator[tuple[str, int | None]]:  # noqa: ARG002  # has none
        """See `Store.walk`: one listing a folder.

        fsspec's own `find` leaves out a folder that it fails to list, in silence.
        """
        self.fs.invalidate_cache()
        pending, seen = [""], {""}
        while pending:
            for name, entry in self._entries(pending.pop()):
                if "/." in f"/{name}" or name in seen:  # a folder may list itself
                    continue
                if entry["type"] == "directory":
                    pending.append(name)
                    seen.add(name)
                elif entry["type"] == "file":
                    yield name, entry.get("size")

    def _entries(self, folder: str) -> list[tuple[str, dict[str, Any]]]:
        """Name below the prefix and facts of what lies directly in a folder."""
        path = self._path(folder).rstrip("/")
        retry = replace(self.retry, deadline_s=self.retry.deadline_s * _LISTING)
        entries = Attempts(retry, share=1).run(
            lambda limit_s: bounded(
                lambda: self.fs.ls(path, detail=True),
                limit_s,
                lambda error: _explained(error, f"{self.url}/{folder}".rstrip("/")),
            ),
            f"can't list {self.url}/{folder}".rstrip("/"),
        )
        entries = [one for one in entries if one["type"] == "directory" or not one["name"].endswith("/")]
        names = [one["name"].rstrip("/").removeprefix(self.root).lstrip("/") for one in entries]
        return [(name, one) for name, one in zip(names, entries, strict=True) if name]

    def read(self, name: str, start: int = 0) -> bytes:
        """See `Store.read`."""
        return self._ask(
            lambda: bytes(self.fs.cat_file(self._path(name), start=start)),
            name,
            f", bytes {start} to the end",
        )

    def head(self, name: str, length: int) -> bytes:
        """See `Store.head`."""
        return self._ask(lambda: self._head(name, length), name, f", the first {length} bytes")

    def _head(self, name: str, length: int) -> bytes:
        data = bytes(self.fs.cat_file(self._path(name), start=0, end=length))
        if len(data) == length:
            return data
        self.fs.invalidate_cache(self.root)
        expected = min(length, int(self.fs.size(self._path(name))))
        if len(data) != expected:
            raise TransientError(f"short data, {len(data)} of {expected} bytes")
        return data

    def read_range(self, name: str, start: int, length: int) -> memoryview:
        """See `Store.read_range`."""
        part = f", bytes {start} to {start + length - 1}"
        return self._ask(lambda: self._read_range(name, start, length), name, part)

    def _read_range(self, name: str, start: int, length: int) -> memoryview:
        data = memoryview(self.fs.cat_file(self._path(name), start=start, end=start + length))
        if len(data) == length:
            return data
        self.fs.invalidate_cache(self.root)
        found = max(0, int(self.fs.size(self._path(name))) - start)
        if found < length:
            raise ends_early(f"{self.url}/{name}", start, length, found)
        raise TransientError(f"short data, {len(data)} of {length} bytes")

    def _ask(self, call: Callable[[], T], name: str, part: str = "") -> T:
        where = f"{self.url}/{name}".rstrip("/")
        return Attempts(self.retry).run(
            lambda limit_s: bounded(call, limit_s, lambda error: _explained(error, where)),
            f"can't read {where}{part}",
        )

    @contextmanager
    def publish(self, name: str, *, create: bool = False) -> Iterator[BinaryIO]:
        """See `Store.publish`: written to a local temporary file, then uploaded in one go."""
        with temporary_file() as file:
            yield file
            file.flush()
            if not (create and self._is_there(name, Path(file.name))):
                with writing(f"{self.url}/{name}"):
                    self.fs.makedirs(self.root, exist_ok=True)
                    self.fs.put_file(file.name, self._path(name))

    def _is_there(self, name: str, file: Path) -> bool:
        if not self.exists(name):
            return False
        if self.size(name) != file.stat().st_size or self.read(name) != file.read_bytes():
            raise taken(f"{self.url}/{name}")
        return True

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        with writing(f"{self.url}/{name}"):
            try:
                self.fs.rm_file(self._path(name))
            except FileNotFoundError:
                return


def _explained(error: Exception, where: str) -> Exception:
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{where} not found; check the path or URL")
    if isinstance(error, PermissionError):
        return UserError(f"no permission to read {where}")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{where} is a directory, expected a file")
    if isinstance(error, _FINAL):
        return UserError(f"can't read {where}: {type(error).__name__}: {without_secrets(error)}")
    return TransientError(f"{type(error).__name__}: {without_secrets(error)}")
