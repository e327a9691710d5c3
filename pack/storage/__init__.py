"""Directories, buckets and other URL prefixes: exact ranged reads and atomic publishing.

A local path is read by `pread`, ``s3://`` by short ranged GETs of boto3, any other scheme by its fsspec
filesystem. Nothing outside this package imports boto3 or fsspec, and here they are imported when a URL
that needs them is opened. Stores may be used by many threads at once; a process that is to be forked
should open none before.
"""

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from pack.storage.local import LocalStore
from pack.storage.other import FsspecStore
from pack.storage.retry import Retry
from pack.storage.trouble import BusyError

if TYPE_CHECKING:
    from pack.storage.s3 import S3Store

__all__ = ["BusyError", "FsspecStore", "LocalStore", "Retry", "S3Store", "Store", "open_store"]


class Store(Protocol):
    """The objects below one directory or URL prefix, by name."""

    url: str
    retry: Retry
    """Limits of a read and of a small request."""

    def exists(self, name: str) -> bool:
        """Whether an object of that name has been published."""

    def size(self, name: str) -> int:
        """Bytes of an object; MissingError if there is none."""

    def names(self) -> list[str]:
        """The sorted names of all objects directly below the prefix."""

    def walk(self, links: Container[str] = ()) -> Iterator[tuple[str, int | None]]:
        """Name and size in bytes of all objects below the prefix, at any depth, in any order.

        Names have ``/`` between their parts. Left out are those with a part that starts with a dot. Local
        links to files are followed, links to folders are not, but for folders whose names are in `links`.
        The size is None where listing does not tell it, as for a link that leads nowhere.

        Raises:
            MissingError: there is no such directory; a bucket's prefix without objects is merely empty.
            UserError: a directory or prefix can't be listed.
        """

    def read(self, name: str, start: int = 0, *, until: float | None = None) -> bytes:
        """Reads from `start` to the end of an object as it is now.

        `until` is the time of `time.monotonic` at which it must have come, where this is one of several
        readings; by default `retry` binds each request alone.

        Raises:
            MissingError: there is no such object.
            UserError: there is no permission, or storage did not deliver within the limits of `Retry`.
        """

    def head(self, name: str, length: int) -> bytes:
        """The first `length` bytes of an object as it is now, or all where it has fewer; see `read`."""

    def read_range(self, name: str, start: int, length: int, *, until: float | None = None) -> memoryview:
        """Reads exactly `length` bytes from `start`; see `read` for `until`.

        The first such read of a name pins the object's version for this store (its ETag; on local disk
        inode, size and time of change; other schemes have no pin), until this store itself publishes or
        removes it.

        Raises:
            UserError: see `read`; or the object ends before `start + length`, or was replaced.
        """

    def publish(self, name: str, *, create: bool = False) -> Any:
        """Context manager of a binary file that becomes object `name` when the block ends well.

        `create` refuses to replace an object of other content with a UserError; one of equal content
        counts as published, so that a publishing whose confirmation was lost may be repeated.
        """

    def remove(self, name: str) -> None:
        """Deletes an object; it is no error if there is none."""


def open_store(url: str, retry: Retry = Retry()) -> Store:  # noqa: B008  # frozen
    """The store of a local directory (created on first publishing), bucket prefix or fsspec URL.

    Args:
        url: ``DIRECTORY``, ``file://DIRECTORY``, ``s3://BUCKET/PREFIX``, or any URL that fsspec knows.
        retry: limits of a read and of a small request.
    """
    if "://" not in url or url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"), retry)
    if url.startswith("s3://"):
        from pack.storage.s3 import S3Store

        return S3Store(url, retry)
    return FsspecStore(url, retry)


def __getattr__(name: str) -> Any:
    if name == "S3Store":  # importing it costs 0.3 s for boto3
        from pack.storage.s3 import S3Store

        return S3Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
