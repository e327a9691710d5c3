"""The coefficients of a part of a JPEG, and the pixels that they stand for.

n blocks, H x W pixels
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from recon.jpeg.frame import Frame
from recon.kernels.entropy import FINE, decode_rectangle
from recon.kernels.huffman import Bytes, Fast, Numbers
from recon.kernels.inverse_dct import inverse_dct
from recon.kernels.pixels import to_rgb

Box = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image in pixels, not empty and inside of it."""

Arguments = tuple[Bytes, Numbers, Numbers, Fast, Numbers]


_MOST_OF_BLOCK = 2 * 64 * (16 + 15) // 8 + 3
"""Bytes: 64 symbols and values, each byte stuffed, and a marker of a restart."""
_AHEAD = 64  # bytes that decoding may look at behind the last that it needs; a marker is there at most


class UndecodedError(Exception):
    """A part can't be decoded alone: the data are damaged, or the entry points belong to others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """Entry points of a scan: all, or those from the first to the first behind the part to be decoded."""

    step: int
    """MCUs from one to the next."""
    bits: NDArray[np.int64]
    """(e,) bit of the scan at which each lies, from its first compressed byte."""
    predictors: NDArray[np.int64]
    """(e, 4) of each component there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coefficients:
    """The blocks of a rectangle of MCUs, from which the pixels of a part can be computed."""

    frame: Frame
    box: Box
    """The part."""
    mcus: Box
    """Top, left, height and width of the rectangle, in MCUs."""
    blocks: NDArray[np.int16]
    """(n, 64) quantised, in natural order: the blocks of Y, line after line, then those of Cb, then Cr."""

    def pixels(self) -> NDArray[np.uint8]:
        """The part, (H, W, 3); grey is repeated in three channels."""
        frame, (top, left, height, width) = self.frame, self.box
        planes, first = [], 0
        for number, (down, across) in enumerate(_blocks_of(frame.components, frame.down, frame.across)):
            high, wide = self.mcus[2] * down, self.mcus[3] * across
            at = slice(first, first := first + high * wide)
            plane = np.empty((8 * high, 8 * wide), np.uint8)
            inverse_dct(self.blocks[at], frame.steps[number], plane)
            planes.append(plane)
        luma_y, luma_x = self.mcus[0] * 8 * frame.down, self.mcus[1] * 8 * frame.across
        if frame.components == 1:
            grey = planes[0][top - luma_y :, left - luma_x :][:height, :width]
            return np.repeat(grey[..., None], 3, axis=2)
        luma, blue, red = planes
        shape = (frame.down, frame.across, *frame.chroma_size, self.mcus[0] * 8, self.mcus[1] * 8)
        if frame.is_narrow:
            blue, red = (plane.repeat(frame.down, 0).repeat(frame.across, 1) for plane in (blue, red))
            shape = (1, 1, frame.height, frame.width, luma_y, luma_x)
        out = np.empty((height, width, 3), np.uint8)
        to_rgb(luma, blue, red, np.array(shape, np.int64), luma_y, luma_x, top, left, out)
        return out


def coefficients(
    data: bytes | memoryview, frame: Frame, entries: Entries, box: Box, first: int = 0
) -> Coefficients:
    """Decodes the coefficients on which a part depends.

    Args:
        data: the file, or as much of it as `scan_part` says.
        frame: its header.
        entries: its entry points.
        box: the part.
        first: the byte of the file with which `data` begin.

    Raises:
        UndecodedError: see there.
    """
    mcus = needed_mcus(frame, box)
    scan, bits = scan_of(data, frame, first), entries.bits
    if first > frame.scan:
        bits = bits - 8 * (first - frame.scan)
    arguments, count = kernel_arguments(scan, frame, entries.step, mcus)
    blocks = np.empty((count, 64), np.int16)
    state = decode_rectangle(*arguments, bits, entries.predictors, blocks)
    if state != FINE:
        raise UndecodedError
    return Coefficients(frame=frame, box=box, mcus=mcus, blocks=blocks)


def scan_part(frame: Frame, entries: Entries, box: Box, size: int) -> tuple[int, int]:
    """The bytes of a file, from the first up to the last, that are decoded for a part.

    Args:
        frame: its header.
        entries: its entry points.
        box: the part.
        size: bytes of the file.

    Raises:
        UndecodedError: the entry points lie behind the end of the file.
    """
    top, left, *_ = needed_mcus(frame, box)
    first = (top * frame.mcus[1] + left) // entries.step
    last = last_entry(frame, entries.step, box)
    start = frame.scan + int(entries.bits[first]) // 8
    behind = min(last, len(entries.bits) - 1)
    stop = frame.scan + int(entries.bits[behind]) // 8 + _AHEAD
    if behind < last:  # the part reaches to the end of the image, behind which much else may lie in the file
        blocks = sum(map(prod, _blocks_of(frame.components, frame.down, frame.across)))
        stop += (frame.mcus[0] * frame.mcus[1] - behind * entries.step) * blocks * _MOST_OF_BLOCK
    if start >= size:
        raise UndecodedError
    return start, min(stop, size)


def last_entry(frame: Frame, step: int, box: Box) -> int:
    """The number of the first entry point behind a part; the image may end before it.

    Args:
        frame: its header.
        step: MCUs from one entry point to the next.
        box: the part.
    """
    top, left, high, wide = needed_mcus(frame, box)
    return -(-((top + high - 1) * frame.mcus[1] + left + wide) // step)


def needed_mcus(frame: Frame, box: Box) -> Box:
    """Top, left, height and width, in MCUs, of the rectangle on which a part depends."""
    rows = _span(box[0], box[2], frame.down, frame.chroma_size[0])
    columns = _span(box[1], box[3], frame.across, frame.chroma_size[1])
    return rows[0], columns[0], rows[1], columns[1]


def _span(start: int, count: int, halved: int, size: int) -> tuple[int, int]:
    """The first MCU along an axis, and how many: upsampling of halved chroma looks at samples beside."""
    beside = halved - 1
    first = max(start // halved - beside, 0) // 8
    last = min((start + count - 1) // halved + beside, size - 1) // 8
    return first, last - first + 1


def scan_of(data: bytes | memoryview, frame: Frame, first: int = 0) -> Bytes:
    """The compressed bytes among those of a file from byte `first` on."""
    return np.frombuffer(data, np.uint8, offset=max(frame.scan - first, 0))


def kernel_arguments(scan: Bytes, frame: Frame, step: int, mcus: Box) -> tuple[Arguments, int]:
    """The arguments that `decode_rectangle` and `find_entries` have in common; the blocks of the rectangle.

    Args:
        scan: of `scan_of`.
        frame: its header.
        step: MCUs from one entry point to the next.
        mcus: the rectangle.
    """
    top, left, high, wide = mcus
    where = (frame.mcus[1], frame.restart, step, left, left + wide, top, top + high)
    parts, count = _parts(frame.components, frame.down, frame.across, high, wide, frame.tables)
    return (scan, np.array(where, np.int64), parts, frame.huffman.fast, frame.huffman.slow), count


def _blocks_of(components: int, down: int, across: int) -> list[tuple[int, int]]:
    """How many blocks of each component an MCU has, down and across."""
    return [(down, across), (1, 1), (1, 1)][:components]


@lru_cache(maxsize=1024)
def _parts(
    components: int, down: int, across: int, high: int, wide: int, tables: tuple[tuple[int, int], ...]
) -> tuple[NDArray[np.int64], int]:
    """For `decode_rectangle`: the blocks of an MCU in a rectangle of MCUs; and how many blocks it has."""
    parts, first = [], 0
    for number, (rows, columns) in enumerate(_blocks_of(components, down, across)):
        line = wide * columns
        parts += [
            (number, *tables[number], first + row * line + column, columns, rows * line)
            for row in range(rows)
            for column in range(columns)
        ]
        first += high * rows * line
    return np.array(parts, np.int64), first


def share(frame: Frame, step: int, box: Box) -> float:
    """Which share of the MCUs of an image is decoded for a part, 0 to 1: each row from an entry point on."""
    *_, rows, columns = needed_mcus(frame, box)
    high, wide = frame.mcus
    return rows * min(columns + step / 2, wide) / (high * wide)
