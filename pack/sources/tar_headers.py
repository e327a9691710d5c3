"""Lists the members of a tar from its headers, by ranged reads that skip the payloads of large members."""

from collections.abc import Iterator

from pack.shard.tar_members import Member, members
from pack.sources.place import is_url
from pack.storage import Store

_LOCAL = 4 << 10  # bytes of a read from disk
# A request to a bucket costs 5 ms of one core. In that time, half a MB arrives at 100 MB/s: it is cheaper to
# read a smaller payload than to skip it.
_LARGE = 512 << 10  # bytes from which on a payload is skipped
_SKIPPING, _THROUGH = 16 << 10, 4 << 20  # bytes of a request after a large payload, and after smaller ones


def listed_members(store: Store, name: str, size: int) -> Iterator[Member]:
    """Yields the members of a tar in their order.

    Args:
        store: the store that holds the tar.
        name: name of the tar.
        size: size of the tar in bytes.

    Raises:
        UserError: the file is no tar, or damaged or cut; the message names the tar and the byte.
        MissingError: there is no such object.
    """
    return members(_Ranges(store, name, size))


class _Ranges:
    """A tar of which only the requested bytes are read, and some that follow them."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self.where = f"{store.url}/{name}"
        self.size = size
        self._store, self._name = store, name
        self._remote = is_url(store.url)
        self._window, self._start = memoryview(b""), 0
        self._end = 0  # one past the last requested byte
        self._largest = _LARGE  # largest gap since the last request; at first such that little is read

    def read(self, position: int, length: int) -> memoryview:
        """See `pack.shard.tar_members.TarBytes`."""
        length = max(0, min(length, self.size - position))
        self._largest = max(self._largest, position - self._end)
        self._end = position + length
        if length and not self._start <= position <= self._end <= self._start + len(self._window):
            asked = (_THROUGH if self._largest < _LARGE else _SKIPPING) if self._remote else _LOCAL
            asked = min(max(length, asked), self.size - position)
            self._window = self._store.read_range(self._name, position, asked)
            self._start, self._largest = position, 0
        return self._window[position - self._start :][:length]
