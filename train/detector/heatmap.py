"""Where in an image a detector sees a fake: the scores of a window that slides over it, as a picture.

Shapes: H rows, W columns of the image, Y rows and X columns of windows.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recon.base.errors import UserError
from recon.base.paths import printable
from recon.image.codec import Pixels
from train.evaluation.figures.decision import Decision

_DOTS_PER_INCH = 110


def sliding_logits(
    logit_of: Callable[[Pixels], float], pixels: Pixels, window: int
) -> tuple[NDArray[np.float64], list[int], list[int], int]:
    """Scores windows at half their side from each other; the last of a row or column ends at the border.

    Args:
        logit_of: the logit of (side, side, 3) pixels.
        pixels: (H, W, 3) uint8.
        window: side in pixels; that of the image if it is smaller.

    Returns:
        (Y, X) logits, the top rows and left columns of the windows, and their side.
    """
    height, width = pixels.shape[:2]
    side = min(window, height, width)
    tops, lefts = _starts(height, side), _starts(width, side)
    logits_YX = np.array(
        [[logit_of(pixels[y : y + side, x : x + side]) for x in lefts] for y in tops], dtype=np.float64
    )
    return logits_YX, tops, lefts, side


def cover(
    values_YX: NDArray[np.float64], tops: list[int], lefts: list[int], side: int, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """(H, W): for each pixel the mean of the windows that hold it."""
    total_HW, count_HW = np.zeros(shape), np.zeros(shape)
    for y, row in zip(tops, values_YX, strict=True):
        for x, value in zip(lefts, row, strict=True):
            total_HW[y : y + side, x : x + side] += value
            count_HW[y : y + side, x : x + side] += 1
    return total_HW / count_HW


def heatmap(
    logit_of: Callable[[Pixels], float], pixels: Pixels, decision: Decision, *, window: int, title: str
) -> bytes:
    """A PNG of the image beside the image with the probabilities laid over it, with their legend.

    Args:
        logit_of: the logit of (side, side, 3) pixels.
        pixels: (H, W, 3) uint8.
        decision: temperature and threshold; the legend marks the threshold.
        window: side of the sliding window in pixels.
        title: above the picture.

    Raises:
        UserError: matplotlib is not installed, or a logit is not finite.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the heat map needs matplotlib; pip install -e '.[plot]'") from error
    logits_YX, tops, lefts, side = sliding_logits(logit_of, pixels, window)
    if not np.isfinite(logits_YX).all():
        raise UserError(f"{title}: a window's logit is not finite; the weights have diverged")
    probability_HW = cover(expit(logits_YX / decision.temperature), tops, lefts, side, pixels.shape[:2])
    figure = Figure(figsize=(10, 5), layout="constrained")  # without pyplot, which may look for a display
    left, right = figure.subplots(1, 2)
    left.imshow(pixels)
    right.imshow(pixels)
    shown = right.imshow(probability_HW, vmin=0, vmax=1, cmap="coolwarm", alpha=0.6)
    for axes in (left, right):
        axes.set_axis_off()
    figure.suptitle(printable(title))
    right.set_title(f"{logits_YX.size} windows of {side}x{side} pixels", fontsize="medium")
    legend = figure.colorbar(shown, ax=right, label="probability of fake, mean of the windows at a pixel")
    legend.ax.axhline(decision.probability, color="black", linewidth=2)  # the threshold
    legend.ax.annotate("threshold", (0.5, decision.probability), ha="center", va="bottom", fontsize="x-small")
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(data, dpi=_DOTS_PER_INCH, format="png")
    return data.getvalue()


def _starts(size: int, side: int) -> list[int]:
    return sorted({*range(0, size - side + 1, max(1, side // 2)), size - side})
