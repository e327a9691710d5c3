"""Entry points of a JPEG as bytes, for an index.

The bytes are varints (`recon.kernels.varints`): MCUs from one entry point to the next, then for each entry
point how much its bit, and the predictor of each component, differ from those of the one before.
"""

import numpy as np
from numpy.typing import NDArray

from recon.jpeg.coefficients import Coefficients, Entries, kernel_arguments, scan_of
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


def read_entries(packed: bytes, frame: Frame) -> Entries | None:
    """The entry points from their bytes; None if these are damaged, or belong to another image."""
    step, data = _step(packed)
    if step < 1:
        return None
    high, wide = frame.mcus
    count = -(-high * wide // step)
    if count * (1 + frame.components) > len(data):  # no memory for what damaged bytes promise
        return None
    entries = Entries(step=step, bits=np.empty(count, np.int64), predictors=np.zeros((count, 4), np.int64))
    # Bits only rise, from 0 on; behind the last byte `decode_rectangle` is safe.
    is_sound = read_sums(data, 1 + frame.components, entries.bits, entries.predictors)
    return entries if is_sound else None


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
    count = -(-high * wide // step)
    entries = Entries(step=step, bits=np.zeros(count, np.int64), predictors=np.zeros((count, 4), np.int64))
    mcus = (0, 0, high, wide)
    arguments, count = kernel_arguments(scan_of(data, frame), frame, step, mcus)
    blocks = np.empty((count, 64), np.int16)
    if find_entries(*arguments, entries.bits, entries.predictors, blocks) != FINE:
        return None
    box = (0, 0, frame.height, frame.width)
    return entries, Coefficients(frame=frame, box=box, mcus=mcus, blocks=blocks)
