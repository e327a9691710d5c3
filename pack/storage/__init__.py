"""Exact ranged reads and atomic publishing in directories, S3 buckets and all that fsspec knows.

In: a path or URL. Out: a `Store`, which reads and writes the objects below it. Next: `pack.base`.

A local path is read with `pread`, ``s3://`` with short ranged GETs of boto3, any other scheme with its
fsspec filesystem. Only this package imports boto3 and fsspec, and only when a URL needs them. Many threads
may use a store at once. A process that is going to fork should not open a store before it forks.
"""

from collections.abc import Container
from typing import TYPE_CHECKING, Any, Protocol

from pack.storage.local import LocalStore
from pack.storage.other import FsspecStore
from pack.storage.retry import Retry, settle
from pack.storage.trouble import BusyError
from recon.base.walk import Files, Leave, tell_nobody

if TYPE_CHECKING:
    from pack.storage.s3 import S3Store

__all__ = ["BusyError", "FsspecStore", "LocalStore", "Retry", "S3Store", "Store", "open_store", "settle"]


class Store(Protocol):
    """The objects below one directory or URL prefix, by name."""

    url: str
    retry: Retry
    """Limits of a read and of a small request."""

    def exists(self, name: str) -> bool:
        """Whether an object of that name has been published."""

    def size(self, name: str) -> int:
        """The size of an object in bytes; MissingError if there is none."""

    def names(self) -> list[str]:
        """The sorted names of all objects directly below the prefix."""

    def times(self) -> dict[str, float | None]:
        """When each of `names` was last changed: seconds since 1970 by the storage's clock, or None."""

    def walk(self, links: Container[str] = (), leave: Leave = tell_nobody) -> Files:
        """Yields name and size in bytes of all objects below the prefix, at any depth, in any order.

        Names have ``/`` between their parts. A name is left out if one of its parts starts with a dot;
        see `recon.base.walk.walk` for what else is left out on local disk, and for the arguments. The size
        is None if the listing does not give it, as for a link to a missing file.

        Raises:
            MissingError: the directory does not exist. (A bucket's prefix without objects counts as empty.)
            UserError: a directory or prefix can't be listed.
        """

    def read(self, name: str, start: int = 0, *, until: float | None = None) -> bytes:
        """Reads the current version of an object, from byte `start` to its end.

        `until` is a deadline by the clock of `time.monotonic`, for a read that is a part of a longer
        operation. By default, the limits of `retry` hold for each request alone.

        Raises:
            MissingError: there is no such object.
            UserError: permission is missing, or storage did not deliver within the limits of `Retry`.
        """

    def head(self, name: str, length: int) -> bytes:
        """The first `length` bytes of an object's current version, or all if it has fewer; see `read`."""

    def read_range(self, name: str, start: int, length: int, *, until: float | None = None) -> memoryview:
        """Reads exactly `length` bytes from `start`; see `read` for `until`.

        The first such read of a name pins the object's version for this store: by its ETag in a bucket,
        by inode, size and modification time on local disk, by what fsspec tells of it elsewhere; where a
        store tells no version, by size and time of change, and a warning says so. The pin ends when this
        store itself publishes or removes the object.

        Raises:
            UserError: see `read`; or the object ends before `start + length`, or was replaced.
        """

    def publish(self, name: str, *, create: bool = False) -> Any:
        """Context manager that gives a binary file; it becomes object `name` if the block ends without error.

        With `create`, a UserError is raised instead of replacing an object of other content. An object of
        equal content counts as published: `publish` may be repeated after its confirmation was lost. A store
        that can't refuse to replace an object (a bucket is tried) is warned of once. There the object is
        read again after `SETTLE_S`, and all writers but the last get the error.
        """

    def remove(self, name: str) -> None:
        """Deletes an object; it is no error if there is none."""


def open_store(url: str, retry: Retry = Retry()) -> Store:  # noqa: B008  # frozen
    """The store of a local directory, a bucket's prefix or an fsspec URL.

    A missing directory is created when the first object is published.

    Args:
        url: ``DIRECTORY``, ``file://DIRECTORY`` (or ``local://``), ``s3://BUCKET/PREFIX``, or any URL that
            fsspec knows.
        retry: limits of a read and of a small request.
    """
    scheme, _, path = url.rpartition("://")
    if scheme in ("", "file", "local"):  # fsspec knows local files by both, but writes them in place
        return LocalStore(path, retry)
    if url.startswith("s3://"):
        from pack.storage.s3 import S3Store

        return S3Store(url, retry)
    return FsspecStore(url, retry)


def __getattr__(name: str) -> Any:
    if name == "S3Store":  # imported late, because importing boto3 takes 0.3 s
        from pack.storage.s3 import S3Store

        return S3Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
