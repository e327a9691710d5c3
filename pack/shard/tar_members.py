"""The members of a tar, from whatever gives its bytes; all that is wrong with a tar is named with its byte.

`tarfile` and so plain `webdataset` take a broken header or a missing end for the end of the tar, in
silence, and what comes after it is lost. Here each is an error with its place.

Format: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU; see the docstring of Python's tarfile.py.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pack.shard.tar_header import HEADER, padded, read_header, shown_name
from recon.base.errors import UserError

_PIECE = 64 << 10  # bytes behind the end mark that are looked at together
_LONGEST = 1 << 20  # bytes of names and attributes before a member
_DIGITS = 20  # of a number in them
_AGAIN = "fetch or write it again"
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

Attributes = dict[str, str]
"""Of a member, from the headers before its own."""


class TarBytes(Protocol):
    """Where the bytes of a tar come from."""

    where: str
    """Its path or URL, for messages."""
    size: int
    """Of the tar, in bytes."""

    def read(self, position: int, length: int) -> bytes | memoryview:
        """The `length` bytes from `position` on, fewer at the end of the tar only.

        Positions never lie before the end of what was read last.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member of a tar."""

    name: str
    """All of it, from however many headers; bytes that are no UTF-8 as surrogates."""
    header: str
    """The name in the header right before the payload: cut, or with other letters, where the name is odd."""
    begin: int
    """Byte at which the first of its headers begins."""
    offset: int
    """Of the payload, in bytes from the tar's start."""
    size: int
    """Of the payload; 0 of links and folders."""
    is_file: bool
    """A plain file, which is all that WebDataset reads."""
    is_link: bool
    """In place of a file that lies elsewhere."""


def members(tar: TarBytes) -> Iterator[Member]:
    """Yields the members of a tar in their order, folders and links too.

    Raises:
        UserError: it is no tar, or cut, damaged or compressed, or holds a sparse file; the error names it
            and the byte.
    """
    position = begin = 0
    extended: Attributes = {}
    while (header := _header(tar, position)) is not None:
        payload = position + HEADER
        if header.type in _EXTENSIONS:
            position = payload + padded(header.size)
            if position - begin > _LONGEST:
                raise _broken(tar, begin, f"more than {_LONGEST} bytes of headers before a member")
            extended = _extension(tar, header, payload) | extended  # tarfile's order: the first counts
            if header.type == tarfile.XGLTYPE and payload - HEADER == begin:
                begin = position  # it is the tar's, not the member's
            continue
        member = _member(tar, header, begin, payload, extended)
        yield member
        position = begin = payload + padded(member.size)
        extended = {}
    if extended:
        raise _broken(tar, begin, "an extended header, but no member behind it")
    _check_end(tar, position)


def _header(tar: TarBytes, position: int) -> tarfile.TarInfo | None:
    """The header at a byte; None for the mark of the end."""
    block = bytes(tar.read(position, HEADER))
    if len(block) < HEADER:
        inside = " within a header" if block else ""
        raise _cut(tar, f"it ends at byte {tar.size}{inside} without the mark of a tar's end")
    if not any(block):
        return None
    try:
        return read_header(block)
    except tarfile.HeaderError as error:
        for magic, kind in _COMPRESSED.items():
            if position == 0 and block.startswith(magic):
                raise UserError(
                    f"{tar.where} is compressed by {kind}, so no part can be read by its place; decompress it"
                ) from None
        raise _broken(tar, position, str(error)) from None


def _member(tar: TarBytes, header: tarfile.TarInfo, begin: int, payload: int, extended: Attributes) -> Member:
    name = extended.get("path", header.name)
    if header.isdir():
        name = name.rstrip("/")
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in extended):
        raise UserError(
            f"{tar.where}: {shown_name(name)} at byte {begin} is stored as a sparse file; "
            "write the tar without"
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
    """Bytes of the payload; what links and folders tell is not in the tar."""
    if not (header.isreg() or header.type not in tarfile.SUPPORTED_TYPES):
        return 0
    text = extended.get("size")
    if text is None:
        return header.size
    if not _is_number(text):
        raise _broken(tar, begin, f"a size of {text[:_DIGITS]!r}")
    return int(text)


def _extension(tar: TarBytes, header: tarfile.TarInfo, payload: int) -> Attributes:
    """What a header tells of the member behind it."""
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
    for key in found:
        if key in ("path", "size") or key.startswith("GNU.sparse"):
            raise _broken(tar, payload - HEADER, f"a global header that tells the {key} of every member")
    return {}


def _pax(tar: TarBytes, position: int, data: bytes) -> Attributes:
    """The records ``LENGTH KEY=VALUE`` of an extended header."""
    found: Attributes = {}
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
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def _check_end(tar: TarBytes, end: int) -> None:
    """Nothing may come after the mark of the end, where no reader would see it."""
    position = end + HEADER
    while piece := bytes(tar.read(position, min(_PIECE, tar.size - position))):
        if rest := piece.lstrip(b"\0"):
            raise UserError(
                f"{tar.where}: data at byte {position + len(piece) - len(rest)}, after the mark of a tar's "
                f"end at byte {end}: it is several tars in one file, or zeros stand where a header was; "
                f"{_AGAIN}"
            )
        position += len(piece)


def _cut(tar: TarBytes, what: str) -> UserError:
    return UserError(f"{tar.where} was cut: {what}; {_AGAIN}")


def _broken(tar: TarBytes, position: int, cause: str) -> UserError:
    return UserError(f"{tar.where}: broken tar header at byte {position} ({cause}); {_AGAIN}")
