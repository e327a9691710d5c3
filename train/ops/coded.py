"""Windows that the device decodes: what the host sends in place of their pixels.

It imports no torch, because the loader's worker has none.

    N windows, M blocks of 8x8 coefficients of all of them together
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.int16]

FACTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("row", "top", "left", "height", "width", "components", "down", "across"),
            *("first_row", "first_column", "end_row", "end_column"),
            *("block", "mcu_top", "mcu_left", "mcus_high", "mcus_wide"),
        )
    ]
)
"""What the device needs to know of a window: its number in the batch, 2 * row + (0 real, 1 fake); where it
begins in its image, below 0 where it overhangs; the image's size, its components, 1 or 3, and how many
pixels a sample of chroma spans, 1 or 2; which part of the window is needed; the window's first block; the
rectangle of MCUs whose blocks are there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedWindows:
    """Some windows of a batch as coefficients."""

    blocks_M64: Blocks
    """Quantised; of each window those of Y, line after line, then Cb, then Cr."""
    steps_N364: NDArray[np.int32]
    """Of quantisation, for each component; anything where a grey image has no such."""
    facts_N: NDArray[np.void]
    """Of dtype `FACTS`."""

    def table(self) -> NDArray[np.int64]:
        """(N, F) the facts, one column for each field."""
        return self.facts_N.view(np.int64).reshape(len(self.facts_N), -1)


def most_blocks(side: int) -> int:
    """The largest number of blocks on which a window of so many pixels a side can depend."""
    whole = (side + 6) // 8 + 1  # blocks in which a row of pixels may lie
    halved = (side // 2 + 3 + 6) // 8 + 1  # upsampling also looks at a sample of chroma on each side
    return max(3 * whole * whole, 4 * whole * halved, 6 * halved * halved)
