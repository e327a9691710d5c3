"""The 512 bytes before each payload of a tar."""

import tarfile

HEADER = tarfile.BLOCKSIZE
"""Bytes of a member's header; payloads are padded to the same."""


def read_header(block: bytes | memoryview) -> tarfile.TarInfo:
    """What one block of a tar says of the payload behind it.

    A name longer than it has room for stands in headers before it, which are not looked at.

    Raises:
        tarfile.HeaderError: the block is no header, or tells a size below 0.
    """
    found = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    if found.size < 0:  # tarfile takes it, and steps back by it
        raise tarfile.HeaderError(f"a size of {found.size} bytes")
    return found


def shown_name(name: str) -> str:
    """A member's name as text that can be stored: its bytes that are no UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def padded(size: int) -> int:
    """Bytes that a payload takes in a tar."""
    return -(-size // HEADER) * HEADER
