"""The windows of one step, in slots; slots without a pair, or with a damaged pair, are masked.

Shapes: B rows: the views of a rank's step, those of one pair side by side, so row b * views + v is view v of
slot b; P = (real, fake), H = W = the window's side, C = RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pack.dataset.pairs import DamagedPair
from recon.image.codec import Pixels
from train.ops.coded import FACTS, Blocks, CodedWindows
from train.window.geometry import FRAME, WindowPlan, whole_window
from train.window.part import Part

if TYPE_CHECKING:
    from recon.jpeg.coefficients import Coefficients  # imports numba


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """A rank's share of one step, before it goes to the device."""

    windows_BPHWC: Pixels
    """uint8; zeros where masked, anything where `coded` has the window."""
    mask_B: NDArray[np.bool_]
    """False where the epoch has no pair left for the slot, or a damaged one: in all rows of the slot."""
    ids_B: NDArray[np.int64]
    """Of `train.draws.parameters.view_ids`, from which the device draws; 0 where masked."""
    frames_B: NDArray[np.void]
    """Where the windows lie, of dtype `train.window.geometry.FRAME`."""
    grey_BP: NDArray[np.int64]
    """Mean grey levels for the jitter's contrast; 0 where it is not drawn."""
    keys: list[str]
    """Of the valid pairs, in the order of the rows that the mask keeps; one a pair, not one a row."""
    changed_BHW: Pixels | None
    """The final crops of the samples' mask images, uint8; None if no dataset has such."""
    damaged: list[DamagedPair]
    """Pairs whose slots are masked because they are damaged."""
    coded: CodedWindows | None
    """The windows that the device decodes, if there are such."""


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A window that is still to be decoded."""

    coefficients: "Coefficients"
    """Of the part of the image on which the needed part of the window depends."""
    top: int
    """Row of the image at which the window begins; below 0 where it overhangs."""
    left: int
    """Column of the image at which the window begins; below 0 where it overhangs."""
    part: Part
    """What is needed of the window."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The windows of one view of a pair, and what is still to be done with them."""

    key: str
    windows_PHWC: Pixels
    """Zeros beyond the needed part, and where the window is in `coded_P`."""
    plan: WindowPlan
    view_id: int = 0
    """Of `train.draws.parameters.view_ids`."""
    grey_P: tuple[int, int] = (0, 0)
    mask_HW: Pixels | None = None
    """The final crop of the sample's mask image."""
    coded_P: tuple[Coded | None, Coded | None] = (None, None)
    """What the device decodes."""


Views = tuple[Cut, ...]
"""The views of one pair, in order."""


def collate(
    cuts: Sequence[Views | DamagedPair],
    windows_BPHWC: Pixels,
    changed_side: int = 0,
    blocks_M64: Blocks | None = None,
) -> WindowBatch:
    """Puts pairs into the slots of a batch. Slots without a pair, or with a damaged one, are masked.

    Args:
        cuts: of at most B / views pairs; all of them have equally many views.
        windows_BPHWC: the memory to fill.
        changed_side: side of the crops of mask images; 0 if no dataset has such.
        blocks_M64: the memory for windows that the device decodes, with room for the largest ones; needed
            only if there are such.
    """
    rows, _, side = windows_BPHWC.shape[:3]
    nothing = np.array(whole_window(side).frame(), FRAME)  # zeros would be divided by on the device
    mask_B = np.zeros(rows, bool)
    ids_B = np.zeros(rows, np.int64)
    frames_B = np.full(rows, nothing, FRAME)
    grey_BP = np.zeros((rows, 2), np.int64)
    changed_BHW = np.zeros((rows, changed_side, changed_side), np.uint8) if changed_side else None
    coded: list[tuple[int, Coded]] = []
    sound = [(slot, views) for slot, views in enumerate(cuts) if not isinstance(views, DamagedPair)]
    for slot, views in sound:
        for row, cut in enumerate(views, slot * len(views)):
            if changed_BHW is not None:  # without a mask, the whole image went through the decoder
                changed_BHW[row] = 255 if cut.mask_HW is None else cut.mask_HW
            mask_B[row] = True
            if any(cut.coded_P):
                coded += _put_apart(cut, row, windows_BPHWC)
            else:
                windows_BPHWC[row] = cut.windows_PHWC
            ids_B[row], frames_B[row], grey_BP[row] = cut.view_id, cut.plan.frame(), cut.grey_P
    windows_BPHWC[~mask_B] = 0  # the memory is used again and again: no pixel of an old batch is left
    return WindowBatch(
        windows_BPHWC=windows_BPHWC,
        mask_B=mask_B,
        ids_B=ids_B,
        frames_B=frames_B,
        grey_BP=grey_BP,
        keys=[views[0].key for _, views in sound],
        changed_BHW=changed_BHW,
        damaged=[cut for cut in cuts if isinstance(cut, DamagedPair)],
        coded=coded_windows(coded, blocks_M64) if coded else None,
    )


def _put_apart(cut: Cut, row: int, windows_BPHWC: Pixels) -> list[tuple[int, Coded]]:
    """Puts what is decoded into a batch; the rest is returned, with the numbers of the windows."""
    rest = []
    for number, (window, coded) in enumerate(zip(cut.windows_PHWC, cut.coded_P, strict=True)):
        if coded is None:
            windows_BPHWC[row, number] = window
        else:
            rest.append((2 * row + number, coded))
    return rest


def coded_windows(coded: Sequence[tuple[int, Coded]], blocks_M64: Blocks | None) -> CodedWindows:
    """Puts coefficients side by side.

    Args:
        coded: windows, each with its number in the batch (see `FACTS`).
        blocks_M64: the memory to fill, from its beginning.
    """
    assert blocks_M64 is not None
    steps_N364, facts_N = np.ones((len(coded), 3, 64), np.int32), np.empty(len(coded), FACTS)
    first = 0
    for number, (row, one) in enumerate(coded):
        part, frame = one.coefficients, one.coefficients.frame
        size = (frame.height, frame.width, frame.components, frame.down, frame.across)
        rows, columns = one.part.rows, one.part.columns
        ends = (rows.start, columns.start, rows.stop, columns.stop)
        facts_N[number] = (row, one.top, one.left, *size, *ends, first, *part.mcus)
        steps_N364[number, : frame.components] = frame.steps
        blocks_M64[first : first + len(part.blocks)] = part.blocks
        first += len(part.blocks)
    return CodedWindows(blocks_M64=blocks_M64[:first], steps_N364=steps_N364, facts_N=facts_N)
