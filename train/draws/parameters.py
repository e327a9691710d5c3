"""Draws the parameters of pairs: pure functions of (seed, epoch, pair id, op).

They do not depend on the batch, the rank, the worker process or the order, and are the same for real and
fake. Numpy arrays and torch tensors on any device give the same bits: the code uses only integers and single
additions and multiplications in float64, whose results IEEE 754 defines (`root` is the exception).
Torch is imported only for tensors, because the loading process does without it.

Shapes: n pairs; H, W rows and columns of an image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from train.draws.arrays import Array, device_of, floor, moved, root
from train.draws.config import AugmentConfig
from train.order.counter import Words, stream_key, uniform, words

if TYPE_CHECKING:
    import torch

JITTER = ("brightness", "contrast", "saturation", "hue")
"""The ops of the colour jitter; `PhotometricDraws.order` holds indices of this tuple."""

_TRIES = 10  # of torchvision's RandomResizedCrop, before its fallback

_ORDERS = np.array(list(permutations(range(len(JITTER)))), np.int64)  # all 24; an order is drawn as an index

# The streams of uniform numbers by op, and how many numbers a pair takes from each. A stream's name is part
# of its key: another name changes all draws.
_GEOMETRY = (
    ("rotation", 1),
    ("resized_crop", 1),
    ("flip", 1),
    ("cutout", 1),
    ("crop", 2),
    ("cutout.centre", 2),
    ("pre_crop", 1),
    ("pre_crop.place", 2),
    ("resized_crop.side", 1),
    ("resized_crop.box", 4 * _TRIES),
)

_CHANCES = ("jitter", "grey", "noise", "blur", "jpeg", "webp", "sharpen", "mix", "frequency_mix")

_REALS = (
    *("jitter.brightness", "jitter.contrast", "jitter.saturation", "jitter.hue"),
    *("noise.variance", "blur.sigma", "sharpen.amount", "mix.fake", "frequency_mix.fake"),
)

_WHOLES = ("jitter.order", "jpeg.quality", "webp.quality")

_PHOTOMETRIC = tuple((name, 1) for name in (*_CHANCES, *_REALS, *_WHOLES))


@dataclass(frozen=True, kw_only=True)
class GeometryDraws:
    """The geometry of n pairs; boxes are still uniform numbers in [0, 1), see `train.draws.boxes`."""

    pre_crop: NDArray[np.bool_]
    """(n,) whether there is a crop before everything else."""
    pre_crop_place: NDArray[np.float64]
    """(n, 2): its top and left."""
    resized: NDArray[np.bool_]
    """(n,) whether there is a resized crop."""
    resized_side: NDArray[np.int64]
    """(n,) side in pixels of its result."""
    resized_tries: NDArray[np.float64]
    """(n, 10, 4): area, ratio, top and left of each try of the resized crop."""
    rotation: NDArray[np.int64]
    """(n,) quarter turns counter-clockwise, 0..3."""
    flip: NDArray[np.bool_]
    """(n,) whether there is a horizontal flip."""
    crop: NDArray[np.float64]
    """(n, 2): top and left of the final crop."""
    cutout: NDArray[np.bool_]
    """(n,) whether there is a hole."""
    cutout_centre: NDArray[np.float64]
    """(n, 2): y and x of the hole's centre, for `cutout_box`."""


@dataclass(frozen=True, kw_only=True)
class PhotometricDraws:
    """The parameters of the photometric ops of n pairs: bool, float64 and int64 arrays (n,), except `order`.

    Parameters are also drawn for ops that a pair does not get.
    """

    jitter: Array
    order: Array
    """(n, 4): a permutation of 0..3, the ops of `JITTER` from first to last."""
    brightness: Array
    """Factor."""
    contrast: Array
    """Factor."""
    saturation: Array
    """Factor."""
    hue: Array
    """Turn of the hue; 1 is a full turn."""
    grey: Array
    noise: Array
    noise_sigma: Array
    """Standard deviation in levels of 0..255: a float64 that is exact in float32."""
    blur: Array
    blur_sigma: Array
    """In pixels."""
    jpeg: Array
    jpeg_quality: Array
    """1..100"""
    webp: Array
    webp_quality: Array
    """1..100"""
    sharpen: Array
    sharpen_amount: Array
    mix: Array
    mix_fake: Array
    """Weight of the fake."""
    frequency_mix: Array
    frequency_mix_fake: Array
    """Weight of the fake."""


def visit_ids(pair_ids: NDArray[np.int64], copy: int) -> NDArray[np.int64]:
    """The ids for the draws: a pair's own id at its first visit in an epoch, other ids at further visits.

    Args:
        pair_ids: (n,) int64.
        copy: number of the visit within the epoch, from 0.
    """
    return words(stream_key(0, copy, "copy"), pair_ids) if copy else pair_ids


def view_ids(ids_n: NDArray[np.int64], views: int) -> NDArray[np.int64]:
    """The ids for the draws of several views of each pair: (n, views).

    View 0 has the visit's own id, so it is what it would be alone.

    Args:
        ids_n: int64, the result of `visit_ids`.
        views: how many, at least 1.
    """
    keys = np.array([stream_key(0, view, "view") for view in range(1, views)], np.int64)
    return np.concatenate([ids_n[:, None], words(keys, ids_n[:, None])], axis=1)


def draw_geometry(config: AugmentConfig, seed: int, epoch: int, ids: NDArray[np.int64]) -> GeometryDraws:
    """Draws the geometry of n pairs.

    Args:
        config: the probabilities.
        seed: of the run.
        epoch: from 0.
        ids: (n,) int64, of `visit_ids` or `view_ids`.
    """
    u: NDArray[np.float64] = _uniforms(_GEOMETRY, seed, epoch, ids)
    turns = (u[:, 0] * 4).astype(np.int64)
    low, high = config.resized_crop_side
    return GeometryDraws(
        rotation=turns if config.rotate else np.zeros_like(turns),
        resized=u[:, 1] < config.resized_crop_p,
        flip=u[:, 2] < config.flip_p,
        cutout=u[:, 3] < config.cutout_p,
        crop=u[:, 4:6],
        cutout_centre=u[:, 6:8],
        pre_crop=u[:, 8] < config.pre_crop_p,
        pre_crop_place=u[:, 9:11],
        resized_side=low + (u[:, 11] * (high - low + 1)).astype(np.int64),
        resized_tries=u[:, 12:].reshape(-1, _TRIES, 4),
    )


def draw_photometric(config: AugmentConfig, seed: int, epoch: int, ids: Words) -> PhotometricDraws:
    """Draws the parameters of n pairs' photometric ops.

    Args:
        config: the probabilities and ranges.
        seed: of the run.
        epoch: from 0.
        ids: (n,) int64, of `visit_ids` or `view_ids`; a numpy array or tensor, and so are the parameters.
    """
    scale = _scale(_chances(config), _ranges(config), device_of(ids))
    u = _uniforms(_PHOTOMETRIC, seed, epoch, ids)
    first, last = len(_CHANCES), len(_CHANCES) + len(_REALS)
    on = (u[:, :first] < scale.chances).T
    reals = (u[:, first:last] * scale.spans + scale.lows).T
    # The product is always below the count, also after rounding: the test of the last number shows it.
    wholes = (floor(u[:, last:] * scale.counts) + scale.firsts).T
    return PhotometricDraws(
        **dict(zip(_CHANCES, on, strict=True)),
        order=scale.orders[wholes[0]],
        brightness=reals[0],
        contrast=reals[1],
        saturation=reals[2],
        hue=reals[3],
        noise_sigma=root(reals[4]),
        blur_sigma=reals[5],
        sharpen_amount=reals[6],
        mix_fake=reals[7],
        frequency_mix_fake=reals[8],
        jpeg_quality=wholes[1],
        webp_quality=wholes[2],
    )


@dataclass(frozen=True)
class _Scale:
    """The numbers that turn uniform numbers into parameters; each array has an entry for each parameter."""

    chances: Array
    lows: Array
    spans: Array
    counts: Array
    firsts: Array
    orders: Array


def _chances(config: AugmentConfig) -> tuple[float, ...]:
    return tuple(getattr(config, f"{op}_p") for op in _CHANCES)


def _ranges(config: AugmentConfig) -> tuple[tuple[float, ...], ...]:
    """(low, high) of all `_REALS` and of all `_WHOLES` except the first, the order of the jitter."""
    factors = ((max(0.0, 1 - a), 1 + a) for a in (config.brightness, config.contrast, config.saturation))
    mixing = (config.mix_fake, config.frequency_mix_fake)
    drawn = (config.noise_variance, config.blur_sigma, config.sharpen, *mixing)
    ranges = (*drawn, config.jpeg_quality, config.webp_quality)
    return (*factors, (-config.hue, config.hue), *map(tuple, ranges))


# Cached, because on a GPU each table would be sent to the device for every batch.
@lru_cache(maxsize=64)
def _scale(
    chances: tuple[float, ...], ranges: tuple[tuple[float, float], ...], device: "torch.device | None"
) -> _Scale:
    reals, wholes = ranges[: len(_REALS)], ranges[len(_REALS) :]
    counts = [len(_ORDERS), *(high - low + 1 for low, high in wholes)]

    def numbers(values: Iterable[float]) -> Array:
        return moved(np.array(list(values), np.float64), device)

    return _Scale(
        chances=numbers(chances),
        lows=numbers(low for low, _ in reals),
        spans=numbers(high - low for low, high in reals),
        counts=numbers(counts),
        firsts=moved(np.array([0, *(low for low, _ in wholes)], np.int64), device),
        orders=moved(_ORDERS, device),
    )


def _uniforms(streams: tuple[tuple[str, int], ...], seed: int, epoch: int, ids: Words) -> Any:
    """Uniform numbers (n, sum of the streams' counts), drawn in one call: for one pair, calls cost most."""
    keys, draws = _keys(streams, seed, epoch, device_of(ids))
    return uniform(keys, ids[:, None], draws)


@lru_cache(maxsize=64)
def _keys(
    streams: tuple[tuple[str, int], ...], seed: int, epoch: int, device: "torch.device | None"
) -> tuple[Array, Array]:
    """The key of each draw, and its number within its stream."""
    keys = [stream_key(seed, epoch, name) for name, count in streams for _ in range(count)]
    draws = [number for _, count in streams for number in range(count)]
    return moved(np.array(keys, np.int64), device), moved(np.array(draws, np.int64), device)
