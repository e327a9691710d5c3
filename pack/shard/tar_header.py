"""The 512 bytes before each payload of a tar."""

import tarfile

HEADER = 512
"""Bytes of a member's header; payloads are padded to the same."""


def read_header(block: bytes | memoryview) -> tarfile.TarInfo:
    """What the header right before a payload says.

    A name longer than it has room for stands in headers before it, which are not looked at.

    Raises:
        tarfile.HeaderError: the block is no header.
    """
    return tarfile.TarInfo.frombuf(bytes(block), "utf-8", "replace")
