"""The 512 bytes before each payload of a tar."""

import tarfile

HEADER = tarfile.BLOCKSIZE
"""Bytes of a member's header; payloads are padded to a multiple of it."""


def read_header(block: bytes | memoryview) -> tarfile.TarInfo:
    """Reads one header block, which describes the payload after it.

    A name that is too long for it is stored in earlier headers, which are not read here.

    Raises:
        tarfile.HeaderError: the block is no header, or has a size below 0.
    """
    found = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    if found.size < 0:  # tarfile accepts it and would go backwards in the file
        raise tarfile.HeaderError(f"a size of {found.size} bytes")
    return found


def shown_name(name: str) -> str:
    """A member's name as valid Unicode, which can be stored: bytes that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def padded(size: int) -> int:
    """Bytes that a payload of `size` bytes takes in a tar, with its padding."""
    return -(-size // HEADER) * HEADER


def fault_of_header(block: bytes | memoryview, name: str, size: int) -> str | None:
    """What is wrong with the header before a payload; None if it tells this name and size."""
    try:
        header = read_header(block)
    except tarfile.HeaderError as error:
        return f"broken tar header ({error})"
    found = shown_name(header.name)
    if (found, header.size) == (name, size):
        return None
    return f"the tar has {found} of {header.size} bytes, the index says {size}"
