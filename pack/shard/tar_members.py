"""Lists the members of a tar from any source of its bytes; every fault is an error that names the byte.

`tarfile`, and therefore plain `webdataset`, silently takes a broken header or a missing end for the end of
the tar, and loses all members after it.

Format: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU; see the docstring of Python's tarfile.py.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pack.shard.tar_header import HEADER, padded, read_header, shown_name
from recon.base.errors import UserError

_PIECE = 64 << 10  # bytes after the end mark that are checked at once
_LONGEST = 1 << 20  # bytes of headers before a member, at most: a damaged size must not fill the memory
_DIGITS = 20  # digits of a number in an extended header, at most
_AGAIN = "fetch or write it again"
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

Attributes = dict[str, str]
"""What the extended headers before a member say about it."""


class BrokenTarError(UserError):
    """A tar is cut, or a header in it is damaged."""


class TarBytes(Protocol):
    """A source of the bytes of a tar."""

    where: str
    """Path or URL of the tar, for messages."""
    size: int
    """Size of the tar in bytes."""

    def read(self, position: int, length: int) -> bytes | memoryview:
        """Returns `length` bytes from `position`, fewer only at the end of the tar.

        A position is never before the end of the last read.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member of a tar."""

    name: str
    """The full name, also if it takes several headers; bytes that are not UTF-8 become surrogates."""
    header: str
    """The name in the header right before the payload; there, an unusual name may be cut or changed."""
    begin: int
    """First byte of the first header of this member."""
    offset: int
    """First byte of the payload, from the start of the tar."""
    size: int
    """Bytes of the payload; 0 for links and folders."""
    is_file: bool
    """Whether it is a plain file; WebDataset reads nothing else."""
    is_link: bool
    """Whether it is a link to a file that is stored elsewhere."""


def members(tar: TarBytes) -> Iterator[Member]:
    """Yields the members of a tar in their order, folders and links too.

    Raises:
        UserError: the file is no tar, or is cut, damaged or compressed, or holds a sparse file; the message
            names the file and the byte.
    """
    position = begin = 0
    extended: Attributes = {}
    while (header := _header(tar, position)) is not None:
        payload = position + HEADER
        if header.type in _EXTENSIONS:
            position = payload + padded(header.size)
            if position - begin > _LONGEST:
                raise _broken(tar, begin, f"more than {_LONGEST} bytes of headers before a member")
            extended = _extension(tar, header, payload) | extended  # as in tarfile, the first counts
            if header.type == tarfile.XGLTYPE and payload - HEADER == begin:
                begin = position  # a global header belongs to the tar, not to the member
            continue
        member = _member(tar, header, begin, payload, extended)
        yield member
        position = begin = payload + padded(member.size)
        extended = {}
    if extended:
        raise _broken(tar, begin, "an extended header, but no member after it")
    _check_end(tar, position)


def _header(tar: TarBytes, position: int) -> tarfile.TarInfo | None:
    """The header at a byte; None for the end mark."""
    block = bytes(tar.read(position, HEADER))
    if len(block) < HEADER:
        inside = " within a header" if block else ""
        raise _cut(tar, f"it ends at byte {tar.size}{inside} without the mark of a tar's end")
    if not any(block):  # a block of zeros marks the end
        return None
    try:
        return read_header(block)
    except tarfile.HeaderError as error:
        for magic, kind in _COMPRESSED.items():
            if position == 0 and block.startswith(magic):
                raise UserError(
                    f"{tar.where} is compressed with {kind}, so no member can be read alone; decompress it"
                ) from None
        raise _broken(tar, position, str(error)) from None


def _member(tar: TarBytes, header: tarfile.TarInfo, begin: int, payload: int, extended: Attributes) -> Member:
    name = extended.get("path", header.name)
    if header.isdir():
        name = name.rstrip("/")
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in extended):
        raise UserError(
            f"{tar.where}: {shown_name(name)} at byte {begin} is stored as a sparse file; "
            "write the tar without sparse files"
        )
    size = _size(tar, header, begin, extended)
    if payload + padded(size) > tar.size:
        raise _cut(
            tar,
            f"member {shown_name(name)} at byte {begin} reaches to byte {payload + padded(size)}, "
            f"but the tar ends at {tar.size}",
        )
    return Member(
        name=name,
        header=shown_name(header.name),
        begin=begin,
        offset=payload,
        size=size,
        is_file=header.isreg(),
        is_link=header.type in _LINKS,
    )


def _size(tar: TarBytes, header: tarfile.TarInfo, begin: int, extended: Attributes) -> int:
    """Bytes of the payload. Links and folders may state a size, but have no payload."""
    # Like tarfile, take a member of unknown type for a plain file.
    if not (header.isreg() or header.type not in tarfile.SUPPORTED_TYPES):
        return 0
    text = extended.get("size")
    if text is None:
        return header.size
    if not _is_number(text):
        raise _broken(tar, begin, f"a size of {text[:_DIGITS]!r}")
    return int(text)


def _extension(tar: TarBytes, header: tarfile.TarInfo, payload: int) -> Attributes:
    """What an extended header says about the member after it."""
    data = bytes(tar.read(payload, header.size))
    if len(data) < header.size:
        raise _cut(tar, f"it ends at byte {tar.size} within an extended header")
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    if header.type == tarfile.GNUTYPE_LONGLINK:
        return {}
    found = _pax(tar, payload - HEADER, data)
    if header.type != tarfile.XGLTYPE:
        return found
    # A global header applies to all members after it. Refuse attributes that can't be true of them all.
    for key in found:
        if key in ("path", "size") or key.startswith("GNU.sparse"):
            raise _broken(tar, payload - HEADER, f"a global header that sets the {key} of every member")
    return {}


def _pax(tar: TarBytes, position: int, data: bytes) -> Attributes:
    """Parses the records ``LENGTH KEY=VALUE`` of an extended header."""
    found: Attributes = {}
    # LENGTH counts the whole record: its own digits, the space and the line end too.
    place, end = 0, len(data.rstrip(b"\0"))
    while place < end:
        digits = data[place : place + _DIGITS + 1].partition(b" ")[0].decode("latin-1")
        stop = place + (int(digits) if _is_number(digits) else 0)
        start = place + len(digits) + 1
        key, equals, value = data[start : stop - 1].partition(b"=")
        if stop <= start or not equals or data[stop - 1 : stop] != b"\n":
            raise _broken(tar, position, "a malformed extended header")
        text = value.decode("utf-8", "surrogateescape")
        found[key.decode("utf-8", "replace")] = text.rstrip("/") if key == b"path" else text
        place = stop
    return found


def _is_number(text: str) -> bool:
    # isdigit() alone would accept digits of other scripts.
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def _check_end(tar: TarBytes, end: int) -> None:
    """UserError if data follow the end mark, because no reader would see them."""
    position = end + HEADER
    while piece := bytes(tar.read(position, min(_PIECE, tar.size - position))):
        if rest := piece.lstrip(b"\0"):
            raise UserError(
                f"{tar.where}: data at byte {position + len(piece) - len(rest)}, after the mark of a tar's "
                f"end at byte {end}: it is several tars in one file, or zeros have replaced a header; "
                f"{_AGAIN}"
            )
        position += len(piece)


def _cut(tar: TarBytes, what: str) -> BrokenTarError:
    return BrokenTarError(f"{tar.where} was cut: {what}; {_AGAIN}")


def _broken(tar: TarBytes, position: int, cause: str) -> BrokenTarError:
    return BrokenTarError(f"{tar.where}: broken tar header at byte {position} ({cause}); {_AGAIN}")
