"""The members of a tar, by its headers alone: ranged reads that skip the payloads of large members.

tarfile reads a damaged tar to the first thing that it does not understand and takes that for the end;
here, whatever is not a whole tar is an error.

Format: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU; see the docstring of Python's tarfile.py.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from pack.sources.place import is_url
from pack.storage import Store
from recon.base.errors import UserError

_BLOCK = tarfile.BLOCKSIZE
_LOCAL = 4 << 10  # bytes of a read from disk
# A request to a bucket takes 5 ms of one core, as long as half a MB takes to come at 100 MB/s.
_LARGE = 512 << 10  # bytes of a payload that is skipped
_SKIPPING, _THROUGH = 16 << 10, 4 << 20  # bytes of a request behind large payloads, and behind others
_BEHIND = 64 << 10  # bytes looked at behind the end mark: tar's own padding is 10 KiB
_LONGEST_NAME = 1 << 20  # bytes of an extended header
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar, or a link in its place."""

    name: str
    header: int
    """Offset of the block that begins it."""
    start: int
    """Offset of its payload."""
    size: int
    """Bytes of its payload."""
    is_file: bool
    """False for links, whose payload is elsewhere."""


def members(store: Store, name: str, size: int) -> Iterator[Member]:
    """The files and links of a tar, in their order.

    Args:
        store: where it lies.
        name: of the tar.
        size: its bytes.

    Raises:
        UserError: it is no tar, or damaged or cut; the error names the tar and the offset.
        MissingError: it is not there.
    """
    return _Tar(store, name, size).members()


class _Tar:
    """A tar on its way to be scanned once."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._where = f"{store.url}/{name}"
        self._remote = is_url(store.url)
        self._window, self._start = memoryview(b""), 0
        self._largest = _LARGE  # payload since the last request

    def members(self) -> Iterator[Member]:
        position = header = 0
        extended: dict[str, str] = {}
        while (block := self._header(position)) is not None:
            payload = position + _BLOCK
            if block.type in _PAX:
                extended |= self._pax(position, self._extension(block, payload))
            elif block.type == tarfile.GNUTYPE_LONGNAME:
                name = bytes(self._extension(block, payload)).rstrip(b"\0")
                extended["path"] = name.decode("utf-8", "surrogateescape")
            elif block.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                member = self._member(block, header, payload, extended)
                if member is not None:
                    yield member
                    block.size = member.size if member.is_file else 0
                extended = {}
            has_payload = block.isreg() or block.type not in tarfile.SUPPORTED_TYPES
            has_payload |= block.type in (*_PAX, tarfile.XGLTYPE, *tarfile.GNU_TYPES)
            position = payload + (-(-block.size // _BLOCK) * _BLOCK if has_payload else 0)
            header = header if extended else position
            self._largest = max(self._largest, block.size)
        self._check_end(position)

    def _header(self, position: int) -> tarfile.TarInfo | None:
        """The header at an offset; None for the mark of the end."""
        block = bytes(self._read(position, _BLOCK))
        if len(block) < _BLOCK:
            raise self._cut(f"ends at {self._size} without tar's end mark")
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in typeshed
            return None
        except tarfile.HeaderError as error:
            for magic, kind in _COMPRESSED.items():
                if position == 0 and block.startswith(magic):
                    raise UserError(
                        f"{self._where} is compressed by {kind}, so that no part can be read alone; unpack it"
                    ) from None
            raise self._bad(position, str(error)) from None

    def _member(
        self, block: tarfile.TarInfo, header: int, payload: int, extended: dict[str, str]
    ) -> Member | None:
        """The file or link of a header and its extensions; None for folders, devices and the like."""
        if block.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in extended):
            raise self._bad(header, "a sparse file, expected plain ones")
        if not (block.isreg() or block.type in _LINKS):
            return None
        name = extended.get("path", block.name)
        try:
            size = int(extended.get("size", block.size))
        except ValueError:
            raise self._bad(header, "a size that is no number") from None
        if block.isreg() and not 0 <= size <= self._size - payload:
            told = f"member {name} of {size} bytes at {payload} goes beyond the end at {self._size}"
            raise self._cut(told)
        return Member(name, header, payload, size, block.isreg())

    def _extension(self, block: tarfile.TarInfo, payload: int) -> memoryview:
        if not 0 <= block.size <= _LONGEST_NAME:
            raise self._bad(payload - _BLOCK, f"an extended header of {block.size} bytes")
        data = self._read(payload, block.size)
        if len(data) < block.size:
            raise self._cut(f"ends at {self._size} within an extended header")
        return data

    def _pax(self, position: int, data: memoryview) -> dict[str, str]:
        """The records ``LENGTH KEY=VALUE`` of an extended header."""
        found, rest = {}, bytes(data)
        while rest.rstrip(b"\0"):
            digits, _, _ = rest.partition(b" ")
            length = int(digits) if digits.isdigit() else 0
            key, equals, value = rest[len(digits) + 1 : length - 1].partition(b"=")
            if not equals or rest[length - 1 : length] != b"\n":
                raise self._bad(position, "a malformed extended header")
            found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
            rest = rest[length:]
        return found

    def _check_end(self, position: int) -> None:
        """Files behind the end mark, which no reader would see."""
        behind = bytes(self._read(position, min(_BEHIND, self._size - position)))
        if behind.strip(b"\0"):
            first = position + len(behind) - len(behind.lstrip(b"\0"))
            raise UserError(
                f"{self._where} goes on at {first} behind its end mark at {position}, expected nothing there "
                "(tars appended to each other by cat?); make one tar of it, or several files"
            )

    def _read(self, position: int, length: int) -> memoryview:
        """Up to `length` bytes at an offset, fewer only at the end of the tar."""
        length = max(0, min(length, self._size - position))
        end = self._start + len(self._window)
        if position < self._start or position + length > end:
            asked = (_THROUGH if self._largest < _LARGE else _SKIPPING) if self._remote else _LOCAL
            asked = max(0, min(max(length, asked), self._size - position))
            self._window = self._store.read_range(self._name, position, asked)
            self._start, self._largest = position, 0
        return self._window[position - self._start :][:length]

    def _bad(self, offset: int, cause: str) -> UserError:
        return UserError(
            f"{self._where} has no valid tar header at {offset}: {cause}; "
            "it is damaged or no tar, make or fetch it again"
        )

    def _cut(self, told: str) -> UserError:
        return UserError(f"{self._where} {told}: it was cut, or its writer died; make or fetch it again")
