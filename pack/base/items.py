"""What a run packs: files in storage, and the pairs that will be made from them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from pack.storage import Store, open_store
from recon.base.errors import MissingError, RejectedImageError, UserError

# Errors that concern one file: its image is rejected. All others concern the storage and stop the run.
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
    """Bytes in storage: a whole object, or a part of an object, such as a member of a tar."""

    root: str
    """Directory or URL prefix that contains the object."""
    name: str
    """Name of the object below `root`, with ``/`` between its parts."""
    size: int | None = None
    """Size in bytes; None if the listing did not give it."""
    start: int | None = None
    """First byte of the part; None for the whole object."""

    @property
    def url(self) -> str:
        """Path or URL of the object."""
        return f"{self.root.rstrip('/')}/{self.name}"

    def read(self) -> bytes:
        """Reads all bytes.

        Raises:
            RejectedImageError: the file is missing, or may not be read.
            UserError: storage fails.
        """
        if self.start is not None:
            assert self.size is not None, self
            return self._part(self.size)
        with self._whole() as store:
            return store.read(self.name)

    def head(self, length: int) -> bytes:
        """Reads the first `length` bytes, or all if there are fewer; for errors see `read`."""
        if self.start is not None:
            assert self.size is not None, self
            return self._part(min(length, self.size))
        with self._whole() as store:
            return store.head(self.name, length)

    def measured(self) -> int:
        """The size in bytes; storage is asked if the listing did not give it. For errors see `read`."""
        if self.size is not None:
            return self.size
        with self._whole() as store:
            return store.size(self.name)

    def _part(self, length: int) -> bytes:
        """Reads a part of a tar; a UserError stops the run, because a bad tar concerns many images."""
        assert self.start is not None
        return bytes(store_of(self.root).read_range(self.name, self.start, length))

    @contextmanager
    def _whole(self) -> Iterator[Store]:
        """Gives the store of an object; an error of this object alone becomes a RejectedImageError."""
        try:
            yield store_of(self.root)
        except UserError as error:
            # Local stores keep the OSError as the cause; all stores raise MissingError.
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _OWN_FAULTS:
                raise RejectedImageError(f"can't be read: {cause.strerror}") from error
            if isinstance(error, MissingError):
                raise RejectedImageError(f"can't be read: not found in {self.root}") from error
            raise


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Item:
    """One pair to make: a photograph or a tile of it, and what reconstructs it."""

    path: str
    """Path below the source, with ``/`` between its parts; key and pair id are computed from it."""
    tile: tuple[int, int] | None = None
    """(y, x) of the tile's top left corner, in pixels."""
    variant: str = ""
    """Distinguishes the pairs that several autoencoders make of one photograph; empty if it has one pair."""
    autoencoder: int = 0
    """Number of what makes its reconstruction, from 0: of an autoencoder in --autoencoder, or of a seed."""
    more: tuple[int, ...] = ()
    """The same of its further reconstructions, which become ``fake2``, ``fake3``, ... of the sample."""
    group: str
    """Label group: the generator of a tree, the class of an image folder, else the folder of the image."""
    real: File
    fake: File | None = None
    """The ready reconstruction; None if an autoencoder makes it."""
    mask: File | None = None
    """A grey image that marks which pixels of the ready reconstruction were changed, if there is one."""

    @property
    def makers(self) -> tuple[int, ...]:
        """What makes its reconstructions, in the order of the sample."""
        return (self.autoencoder, *self.more)


@cache
def store_of(root: str) -> Store:
    """The store of a directory or URL prefix; a process opens each one once."""
    return open_store(root)
