"""What is to be packed: files in storage, and the pairs that are to be made of them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from pack.storage import Store, open_store
from recon.base.errors import MissingError, RejectedImageError, UserError

# Of one file, not of the storage that it lies in.
_OWN_FAULTS = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)


@dataclass(frozen=True, slots=True, order=True)
class File:
    """Bytes in storage: a whole object, or a part of one such as a member of a tar."""

    root: str
    """Directory or URL prefix that the object lies below."""
    name: str
    """The object below `root`, with ``/`` between its parts."""
    size: int | None = None
    """Bytes; None where listing does not tell."""
    start: int | None = None
    """First byte of the part; None for the whole object."""

    @property
    def url(self) -> str:
        """Path or URL of the object."""
        return f"{self.root.rstrip('/')}/{self.name}"

    def read(self) -> bytes:
        """All its bytes.

        Raises:
            RejectedImageError: there is no such file, or no permission to read it.
            UserError: storage fails.
        """
        if self.start is not None:
            assert self.size is not None, self
            return self._part(self.size)
        with self._whole() as store:
            return store.read(self.name)

    def head(self, length: int) -> bytes:
        """The first `length` bytes, or all where it has fewer; see `read`."""
        if self.start is not None:
            assert self.size is not None, self
            return self._part(min(length, self.size))
        with self._whole() as store:
            return store.head(self.name, length)

    def measured(self) -> int:
        """Its size, for which storage is asked where listing did not tell; see `read`."""
        if self.size is not None:
            return self.size
        with self._whole() as store:
            return store.size(self.name)

    def _part(self, length: int) -> bytes:
        """What is wrong with a tar is wrong with many images, so that none of them is rejected for it."""
        assert self.start is not None
        return bytes(store_of(self.root).read_range(self.name, self.start, length))

    @contextmanager
    def _whole(self) -> Iterator[Store]:
        """The store of an object; what it raises for the object alone becomes a RejectedImageError."""
        try:
            yield store_of(self.root)
        except UserError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _OWN_FAULTS:
                raise RejectedImageError(f"can't be read: {cause.strerror}") from error
            if isinstance(error, MissingError):
                raise RejectedImageError(f"can't be read: not found in {self.root}") from error
            raise


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Item:
    """One pair to be: a photograph or a tile of it, and who reconstructs it."""

    path: str
    """Below the source, with ``/`` between its parts; the pair's identity."""
    tile: tuple[int, int] | None = None
    """(y, x) of the tile's corner."""
    variant: str = ""
    """Tells the pairs of one photograph by several autoencoders apart; empty where there is one."""
    autoencoder: int = 0
    """Which of the run's autoencoders, by its place in --autoencoder."""
    group: str
    """Label group: the generator of a tree, the class of an image folder, else the folder it lies in."""
    real: File
    fake: File | None = None
    """The ready reconstruction."""


@cache
def store_of(root: str) -> Store:
    """The store of a directory or URL prefix, opened once a process."""
    return open_store(root)
