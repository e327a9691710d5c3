"""The random numbers of a pair: pure functions of (seed, epoch, pair id, op).

Nothing depends on the batch, the rank, the worker or the order; real and fake share
every draw. Numpy arrays and torch tensors, on any device, give the same bits: integers, and
single additions and multiplications in float64, which IEEE 754 fixes, do it all (but see `_sqrt`).
Torch is not imported before a tensor comes: the loading process has none.

Shapes: n pairs; H, W rows and columns of an image.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from train.augment.config import AugmentConfig
from train.counter import Words, pixel_words, stream_key, uniform, words

if TYPE_CHECKING:
    import torch

JITTER = ("brightness", "contrast", "saturation", "hue")
"""The jitter's ops; `PhotometricDraws.order` holds places in here."""

_TRIES = 10  # of torchvision's RandomResizedCrop, before its fallback
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_LOG_RATIO = (math.log(_RATIO[0]), math.log(_RATIO[1]))

_ORDERS = np.array(list(permutations(range(len(JITTER)))), np.int64)

# The streams of uniform numbers, by op, and how many each pair takes of it.
_GEOMETRY = (
    ("rotation", 1),
    ("resized_crop", 1),
    ("flip", 1),
    ("cutout", 1),
    ("crop", 2),
    ("cutout.centre", 2),
    ("resized_crop.box", 4 * _TRIES),
)
_CHANCES = ("jitter", "grey", "noise", "blur", "jpeg", "webp", "sharpen", "mix")
_REALS = (
    *("jitter.brightness", "jitter.contrast", "jitter.saturation", "jitter.hue"),
    *("noise.variance", "blur.sigma", "sharpen.amount", "mix.fake"),
)
_WHOLES = ("jitter.order", "jpeg.quality", "webp.quality")
_PHOTOMETRIC = tuple((name, 1) for name in (*_CHANCES, *_REALS, *_WHOLES))

Box = tuple[int, int, int, int]
Array = Any
"""A numpy array or a torch tensor, as the ids were."""


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
    cutout: NDArray[np.bool_]
    """(n,) whether there is a hole."""
    cutout_centre: NDArray[np.float64]
    """(n, 2): y and x of the hole's centre, for `cutout_box`."""


@dataclass(frozen=True, kw_only=True)
class PhotometricDraws:
    """The parameters of n pairs' photometric ops: bool, float64 and int64 arrays (n,) but for `order`.

    A parameter is drawn whether its op is or not.
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
    """Turn of the hue; 1 is the whole circle."""
    grey: Array
    noise: Array
    noise_sigma: Array
    """Standard deviation in levels of 0..255: float64 that float32 holds exactly."""
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


def visit_ids(pair_ids: NDArray[np.int64], copy: int) -> NDArray[np.int64]:
    """What stands for pairs in the draws: their ids, or others where an epoch meets them once more.

    Args:
        pair_ids: (n,) int64.
        copy: number of the visit within the epoch, from 0.
    """
    return words(stream_key(0, copy, "copy"), pair_ids) if copy else pair_ids


def draw_geometry(config: AugmentConfig, seed: int, epoch: int, ids: NDArray[np.int64]) -> GeometryDraws:
    """Draws the geometry of n pairs.

    Args:
        config: the probabilities.
        seed: of the run.
        epoch: from 0.
        ids: (n,) int64 of `visit_ids`.
    """
    u: NDArray[np.float64] = _uniforms(_GEOMETRY, seed, epoch, ids)
    turns = (u[:, 0] * 4).astype(np.int64)
    return GeometryDraws(
        rotation=turns if config.rotate else np.zeros_like(turns),
        resized=u[:, 1] < config.resized_crop_p,
        flip=u[:, 2] < config.flip_p,
        cutout=u[:, 3] < config.cutout_p,
        crop=u[:, 4:6],
        cutout_centre=u[:, 6:8],
        resized_tries=u[:, 8:].reshape(-1, _TRIES, 4),
    )


def draw_photometric(config: AugmentConfig, seed: int, epoch: int, ids: Words) -> PhotometricDraws:
    """Draws the parameters of n pairs' photometric ops.

    Args:
        config: the probabilities and ranges.
        seed: of the run.
        epoch: from 0.
        ids: (n,) int64 of `visit_ids`, numpy or torch: what is drawn is of the same kind.
    """
    scale = _scale(_chances(config), _ranges(config), _device(ids))
    u = _uniforms(_PHOTOMETRIC, seed, epoch, ids)
    first, last = len(_CHANCES), len(_CHANCES) + len(_REALS)
    on = (u[:, :first] < scale.chances).T
    reals = (u[:, first:last] * scale.spans + scale.lows).T
    # The product stays below the count, however it is rounded: see the test of the last number.
    wholes = (_floor(u[:, last:] * scale.counts) + scale.firsts).T
    return PhotometricDraws(
        **dict(zip(_CHANCES, on, strict=True)),
        order=scale.orders[wholes[0]],
        brightness=reals[0],
        contrast=reals[1],
        saturation=reals[2],
        hue=reals[3],
        noise_sigma=_sqrt(reals[4]),
        blur_sigma=reals[5],
        sharpen_amount=reals[6],
        mix_fake=reals[7],
        jpeg_quality=wholes[1],
        webp_quality=wholes[2],
    )


def noise_keys(seed: int, epoch: int, ids: Words) -> Words:
    """(n,) int64 keys of the pairs' noise fields; arguments as of `draw_photometric`."""
    return words(stream_key(seed, epoch, "noise.field"), ids)


def noise_levels(keys_n: Words, y_nH: Words, x_nW: Words) -> Words:
    """The noise fields of n pairs: a pure function of (key, y, x, channel).

    Args:
        keys_n: (n,) of `noise_keys`.
        y_nH: (n, H) or (1, H) int64 rows of the augmented image.
        x_nW: (n, W) or (1, W) int64 columns of the augmented image.

    Returns:
        (n, 3, H, W) int64 places in `NORMALS`: a pixel's word gives 16 bits to each channel.
    """
    words_nHW = pixel_words(keys_n, y_nH, x_nW)
    levels: Words = (words_nHW[:, None] >> _shifts(_device(keys_n))) & 0xFFFF
    return levels


def _normals() -> NDArray[np.float32]:
    """Quantiles (i + .5) / 65536 of the normal distribution.

    A library's logarithm enters the tails, and libraries differ in its last bit; but no quantile
    lies within 1e-12 of where the rounding to float32 turns, a thousand times that bit: the table
    is the same everywhere. The second half mirrors the first, so that the mean is zero.
    """
    quantile = NormalDist().inv_cdf
    half = np.array([quantile((i + 0.5) / 65536) for i in range(32768)]).astype(np.float32)
    return np.concatenate([half, -half[::-1]])


NORMALS = _normals()
"""(65536,) float32: the normal numbers that noise is made of; their variance is 0.99998."""


def resized_box(tries: NDArray[np.float64], height: int, width: int) -> Box:
    """(top, left, height, width) of a random resized crop.

    Args:
        tries: (10, 4) uniform numbers: area, ratio, top, left of each try.
        height: of the image.
        width: of the image.

    Source: `get_params` of torchvision.transforms.RandomResizedCrop, with its ten tries and
    its fallback to a centre crop.
    """
    for u_area, u_ratio, u_top, u_left in tries.tolist():
        area = height * width * (_AREA[0] + u_area * (_AREA[1] - _AREA[0]))
        ratio = math.exp(_LOG_RATIO[0] + u_ratio * (_LOG_RATIO[1] - _LOG_RATIO[0]))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return pick(u_top, height - h + 1), pick(u_left, width - w + 1), h, w
    return _fallback_box(height, width)


def cutout_box(centre: NDArray[np.float64], side: int, height: int, width: int) -> Box:
    """(y1, x1, y2, x2) of the hole, its ends excluded; near a border it is cut off, or empty.

    Args:
        centre: (2,) uniform numbers: y and x. The centre is a whole place in 0..height, 0..width,
            both ends included.
        side: of the hole in pixels.
        height: of the augmented image.
        width: of the augmented image.
    """
    (y1, y2), (x1, x2) = (
        (start, min(start + side, size))
        for u, size in zip(centre, (height, width), strict=True)
        for start in (max(pick(u, size + 1) - side // 2, 0),)
    )
    return y1, x1, y2, x2


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


@dataclass(frozen=True)
class _Scale:
    """What turns uniform numbers into parameters, one place a parameter."""

    chances: Array
    lows: Array
    spans: Array
    counts: Array
    firsts: Array
    orders: Array


def _chances(config: AugmentConfig) -> tuple[float, ...]:
    return tuple(getattr(config, f"{op}_p") for op in _CHANCES)


def _ranges(config: AugmentConfig) -> tuple[tuple[float, ...], ...]:
    """(low, high) of `_REALS` and of `_WHOLES` but the first."""
    factors = ((max(0.0, 1 - a), 1 + a) for a in (config.brightness, config.contrast, config.saturation))
    drawn = (config.noise_variance, config.blur_sigma, config.sharpen, config.mix_fake)
    ranges = (*drawn, config.jpeg_quality, config.webp_quality)
    return (*factors, (-config.hue, config.hue), *map(tuple, ranges))


@lru_cache(maxsize=64)
def _scale(
    chances: tuple[float, ...], ranges: tuple[tuple[float, float], ...], device: "torch.device | None"
) -> _Scale:
    reals, wholes = ranges[: len(_REALS)], ranges[len(_REALS) :]
    counts = [len(_ORDERS), *(high - low + 1 for low, high in wholes)]

    def numbers(values: Iterable[float]) -> Array:
        return _moved(np.array(list(values), np.float64), device)

    return _Scale(
        chances=numbers(chances),
        lows=numbers(low for low, _ in reals),
        spans=numbers(high - low for low, high in reals),
        counts=numbers(counts),
        firsts=_moved(np.array([0, *(low for low, _ in wholes)], np.int64), device),
        orders=_moved(_ORDERS, device),
    )


def _uniforms(streams: tuple[tuple[str, int], ...], seed: int, epoch: int, ids: Words) -> Any:
    """Uniform numbers (n, all counts of `streams`) by one call: for a single pair, calls are what costs."""
    keys, draws = _keys(streams, seed, epoch, _device(ids))
    return uniform(keys, ids[:, None], draws)


@lru_cache(maxsize=64)
def _keys(
    streams: tuple[tuple[str, int], ...], seed: int, epoch: int, device: "torch.device | None"
) -> tuple[Array, Array]:
    """The key and the number of each draw."""
    keys = [stream_key(seed, epoch, name) for name, count in streams for _ in range(count)]
    draws = [number for _, count in streams for number in range(count)]
    return _moved(np.array(keys, np.int64), device), _moved(np.array(draws, np.int64), device)


@lru_cache(maxsize=8)
def _shifts(device: "torch.device | None") -> Array:
    """(3, 1, 1): how far down each channel's 16 bits of a word go."""
    return _moved(np.array([48, 32, 16], np.int64)[:, None, None], device)


def _device(ids: Any) -> "torch.device | None":
    """Where a tensor lies; None for a numpy array."""
    return None if isinstance(ids, np.ndarray) else ids.device


def _moved(array: NDArray[Any], device: "torch.device | None") -> Array:
    if device is None:
        return array
    import torch

    return torch.from_numpy(array).to(device)


def _sqrt(x: Array) -> Array:
    """The root in float32's precision, rounded correctly.

    Torch's root on a CPU (MKL's) may miss float64's last bit. The root of a number of 24 bits keeps
    four such bits' distance from where the rounding to 24 bits turns: rounded, all roots agree.
    """
    if isinstance(x, np.ndarray):
        return np.sqrt(x.astype(np.float32)).astype(np.float64)
    return x.float().double().sqrt().float().double()


def _floor(x: Array) -> Array:
    """Whole numbers of what is not negative."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()
