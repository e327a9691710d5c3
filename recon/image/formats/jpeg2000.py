"""What the main header of a JPEG 2000 codestream says (ISO/IEC 15444-1, annex A): bits, and the wavelet."""

from collections.abc import Iterator

_START = b"\xff\x4f\xff\x51"  # markers SOC and SIZ, with which every codestream begins
_COD, _COC, _TILE = 0x52, 0x53, 0x90  # coding style of all components, of one; the first tile
_COMPONENTS, _BITS = 34, 36  # places in SIZ behind its length: how many, in two bytes; the bits of the first
_FEW = 256  # components whose number takes one byte
_REVERSIBLE = 1  # the 5/3 wavelet on integers; 0 is the 9/7 wavelet, which rounds


def bits_of(data: bytes) -> int:
    """Bits of the first component; 8 if there is no codestream, which is for the decoder to tell."""
    size = _size(data)
    return (size[_BITS] & 0x7F) + 1 if len(size) > _BITS else 8


def is_reversible(data: bytes) -> bool:
    """Whether all components are coded by the wavelet that loses nothing.

    An encoder may cut such a file all the same, to a size, which no header tells.
    """
    found = [body[_wavelet(data, marker)] for marker, body in _segments(data) if marker in (_COD, _COC)]
    return bool(found) and all(wavelet == _REVERSIBLE for wavelet in found)


def _wavelet(data: bytes, marker: int) -> int:
    """The place of the wavelet in a segment behind its length; the last thing before precincts."""
    if marker == _COD:
        return 9
    components = int.from_bytes(_size(data)[_COMPONENTS:_BITS], "big")
    return 6 if components <= _FEW else 7


def _size(data: bytes) -> bytes:
    """The segment SIZ behind its length."""
    return next((body for _, body in _segments(data)), b"")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the second byte of the marker and the content of each segment of the main header."""
    place = data.find(_START) + 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _TILE:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], data[place + 4 : place + 2 + length]
        place += 2 + length
