"""The random numbers of a pair: pure functions of (seed, epoch, pair id, op).

Nothing depends on the batch, the rank, the worker or the order; real and fake share
every draw.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.config import AugmentConfig
from train.counter import stream_key, uniform, words

_TRIES = 10  # of torchvision's RandomResizedCrop, before its fallback
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class GeometryDraws:
    """Uniform numbers in [0, 1) for the geometry of n pairs; `geometry` makes boxes of them."""

    resized: NDArray[np.bool_]
    """(n,) whether a resized crop comes first."""
    resized_tries: NDArray[np.float64]
    """(n, 10, 4): area, ratio, top and left of each try of the resized crop."""
    rotation: NDArray[np.int64]
    """(n,) quarter turns counter-clockwise, 0..3."""
    flip: NDArray[np.bool_]
    """(n,)"""
    crop: NDArray[np.float64]
    """(n, 2): top and left of the final crop."""


def visit_ids(pair_ids: NDArray[np.int64], copy: int) -> NDArray[np.int64]:
    """What stands for pairs in the draws: their ids, or others where an epoch meets them once more.

    Args:
        pair_ids: (n,) int64.
        copy: number of the visit within the epoch, from 0.
    """
    return words(stream_key(0, copy, "copy"), pair_ids) if copy else pair_ids


def draw_geometry(config: AugmentConfig, seed: int, epoch: int, pair_ids: NDArray[np.int64]) -> GeometryDraws:
    """Draws the geometry of n pairs.

    Args:
        config: the probabilities.
        seed: of the run.
        epoch: from 0.
        pair_ids: (n,) int64 of `visit_ids`.
    """

    def draw(op: str, count: int) -> NDArray[np.float64]:
        numbers: NDArray[np.float64] = uniform(
            stream_key(seed, epoch, op), pair_ids[:, None], np.arange(count)
        )
        return numbers

    turns = (draw("rotation", 1)[:, 0] * 4).astype(np.int64)
    return GeometryDraws(
        resized=draw("resized_crop", 1)[:, 0] < config.resized_crop_p,
        resized_tries=draw("resized_crop.box", 4 * _TRIES).reshape(-1, _TRIES, 4),
        rotation=turns if config.rotate else np.zeros_like(turns),
        flip=draw("flip", 1)[:, 0] < config.flip_p,
        crop=draw("crop", 2),
    )


def resized_box(tries: NDArray[np.float64], height: int, width: int) -> Box:
    """(top, left, height, width) of a random resized crop.

    Args:
        tries: (10, 4) uniform numbers: area, ratio, top, left of each try.
        height: of the image.
        width: of the image.

    Source: `get_params` of torchvision.transforms.RandomResizedCrop, with its ten tries and
    its fallback to a centre crop.
    """
    low, high = np.log(_RATIO)
    areas = height * width * (_AREA[0] + tries[:, 0] * (_AREA[1] - _AREA[0]))
    ratios = np.exp(low + tries[:, 1] * (high - low))
    widths = np.rint(np.sqrt(areas * ratios)).astype(int)
    heights = np.rint(np.sqrt(areas / ratios)).astype(int)
    fits = (0 < widths) & (widths <= width) & (0 < heights) & (heights <= height)
    if not fits.any():
        return _fallback_box(height, width)
    first = int(fits.argmax())
    h, w = int(heights[first]), int(widths[first])
    top, left = pick(tries[first, 2], height - h + 1), pick(tries[first, 3], width - w + 1)
    return top, left, h, w


def pick(u: float, count: int) -> int:
    """The integer 0..count-1 that a uniform number in [0, 1) stands for."""
    return min(int(u * count), count - 1)


def _fallback_box(height: int, width: int) -> Box:
    h, w = height, width
    if width / height < _RATIO[0]:
        h = round(width / _RATIO[0])
    elif width / height > _RATIO[1]:
        w = round(height * _RATIO[1])
    return (height - h) // 2, (width - w) // 2, h, w
