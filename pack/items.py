"""What is to be packed: files in storage, and the pairs that are to be made of them."""

from dataclasses import dataclass
from functools import cache

from pack.storage import Store, open_store
from recon.errors import RejectedImageError, UserError


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
    def suffix(self) -> str:
        """Lower-case suffix of the name, with its dot."""
        return "." + self.name.rsplit(".", 1)[-1].lower()

    def read(self) -> bytes:
        """All its bytes.

        Raises:
            RejectedImageError: there is no such file, or no permission to read it.
            UserError: storage fails.
        """
        store = _store(self.root)
        try:
            if self.start is None:
                return store.read(self.name)
            assert self.size is not None, self
            return bytes(store.read_range(self.name, self.start, self.size))
        except UserError as error:
            if "://" in self.root:
                raise
            raise RejectedImageError(f"can't be read: {error}") from error


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
def _store(root: str) -> Store:
    return open_store(root)
