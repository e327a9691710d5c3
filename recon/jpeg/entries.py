"""Entry points of a JPEG as bytes, for an index.

The bytes are varints (`recon.kernels.varints`): MCUs from one entry point to the next, then for each entry
point how much its bit, and the predictor of each component, differ from those of the one before.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.jpeg.coefficients import (
    Box,
    Coefficients,
    Entries,
    UndecodedError,
    kernel_arguments,
    last_entry,
    scan_of,
)
from recon.jpeg.frame import Frame, read_frame
from recon.jpeg.turbo import decode_plain_jpeg
from recon.kernels.entropy import FINE, find_entries
from recon.kernels.varints import MOST_BYTES, read_sums, write_varints

_BYTES = 800  # of a scan from one entry point to the next: the bytes for an entry are then less than 1 %


def entries_of(data: bytes, pixels: NDArray[np.uint8] | None = None) -> bytes | None:
    """Finds the entry points of an image file.

    Args:
        data: the file.
        pixels: (H, W, 3), what libjpeg-turbo decodes it to; None if the caller has not decoded it.

    Returns:
        None if it is no baseline JPEG that can be decoded in part (see `read_frame`), or if the pixels that
        this package computes for the whole of it differ from those of libjpeg-turbo.
    """
    frame = read_frame(data)
    if frame is None:
        return None
    expected = decode_plain_jpeg(data) if pixels is None else pixels
    if expected is None:
        return None
    found = _found(data, frame)
    if found is None:
        return None
    entries, whole = found
    return _packed(entries, frame) if np.array_equal(whole.pixels(), expected) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedEntries:
    """Entry points as bytes, of which no more are read than a part needs."""

    frame: Frame
    """The header of the image."""
    step: int
    """MCUs from one to the next."""
    numbers: NDArray[np.uint8]
    """Their varints; there are as many as the image needs."""

    def until(self, box: Box) -> Entries:
        """Those from the first of the image to the first behind a part.

        Raises:
            UndecodedError: they are damaged.
        """
        count = min(last_entry(self.frame, self.step, box) + 1, _count(self.frame, self.step))
        entries = Entries(
            step=self.step, bits=np.empty(count, np.int64), predictors=np.zeros((count, 4), np.int64)
        )
        # Bits only rise, from 0 on; behind the last byte `decode_rectangle` is safe.
        columns = 1 + self.frame.components
        if not read_sums(self.numbers, columns, entries.bits, entries.predictors):
            raise UndecodedError
        return entries


def open_entries(packed: bytes, frame: Frame) -> PackedEntries | None:
    """The entry points in their bytes; None if there are more or fewer than the image needs."""
    step, numbers = _step(packed)
    if step < 1:
        return None
    ends = np.count_nonzero(numbers < 128)  # before memory is taken for what damaged bytes promise
    is_whole = ends == _count(frame, step) * (1 + frame.components) and numbers[-1] < 128
    return PackedEntries(frame=frame, step=step, numbers=numbers) if is_whole else None


def _count(frame: Frame, step: int) -> int:
    """How many entry points an image has."""
    return -(-frame.mcus[0] * frame.mcus[1] // step)


def _step(packed: bytes) -> tuple[int, NDArray[np.uint8]]:
    """The first number of an entry's bytes, 0 if there is none, and the bytes behind it."""
    value = 0
    for place, byte in enumerate(packed[:MOST_BYTES]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return (value >> 1) ^ -(value & 1), np.frombuffer(packed, np.uint8, offset=place + 1)
    return 0, np.empty(0, np.uint8)


def _packed(entries: Entries, frame: Frame) -> bytes:
    values = np.column_stack([entries.bits, entries.predictors[:, : frame.components]])
    changes = np.diff(values, axis=0, prepend=np.zeros((1, values.shape[1]), np.int64))
    numbers = np.concatenate([[entries.step], changes.reshape(-1)])
    out = np.empty(MOST_BYTES * len(numbers), np.uint8)
    return out[: write_varints(numbers, out)].tobytes()


def _found(data: bytes, frame: Frame) -> tuple[Entries, Coefficients] | None:
    """The entry points, and the coefficients of the whole image, which are decoded with them."""
    high, wide = frame.mcus
    step = max(1, round(high * wide * _BYTES / max(1, len(data) - frame.scan)))
    count = _count(frame, step)
    entries = Entries(step=step, bits=np.zeros(count, np.int64), predictors=np.zeros((count, 4), np.int64))
    mcus = (0, 0, high, wide)
    arguments, count = kernel_arguments(scan_of(data, frame), frame, step, mcus)
    blocks = np.empty((count, 64), np.int16)
    if find_entries(*arguments, entries.bits, entries.predictors, blocks) != FINE:
        return None
    box = (0, 0, frame.height, frame.width)
    return entries, Coefficients(frame=frame, box=box, mcus=mcus, blocks=blocks)
