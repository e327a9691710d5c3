"""The members of a tar by its headers alone: ranged reads that skip the payloads of large members."""

from collections.abc import Iterator

from pack.shard.tar_members import Member, members
from pack.sources.place import is_url
from pack.storage import Store

_LOCAL = 4 << 10  # bytes of a read from disk
# A request to a bucket takes 5 ms of one core, as long as half a MB takes to come at 100 MB/s.
_LARGE = 512 << 10  # bytes of a payload that is skipped
_SKIPPING, _THROUGH = 16 << 10, 4 << 20  # bytes of a request behind large payloads, and behind others


def listed_members(store: Store, name: str, size: int) -> Iterator[Member]:
    """The members of a tar, in their order.

    Args:
        store: where it lies.
        name: of the tar.
        size: its bytes.

    Raises:
        UserError: it is no tar, or damaged or cut; the error names the tar and the byte.
        MissingError: it is not there.
    """
    return members(_Ranges(store, name, size))


class _Ranges:
    """A tar of which only what is asked for is read, and a little more."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self.where = f"{store.url}/{name}"
        self.size = size
        self._store, self._name = store, name
        self._remote = is_url(store.url)
        self._window, self._start = memoryview(b""), 0
        self._end = 0  # of what was asked for last
        self._largest = _LARGE  # gap between what was asked for since the last request

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
