"""Colour jitter, bit for bit as in Pillow's 8-bit steps, for numpy arrays and torch tensors.

An image is a float32 array (..., 3, H, W) of integer levels 0..255. Factors, turns and means are numbers, or
arrays that broadcast against it, such as (n, 1, 1, 1) with one value for each image. No function changes its
arguments. Torch is imported only for tensors, because the loading process does without it.

Sources: `ImagingBlend` (Blend.c), `rgb2l`, `rgb2hsv_row` and `hsv2rgb` (Convert.c) and ImageEnhance.py
of Pillow; `adjust_hue` of torchvision's _functional_pil.py. The tests compare all 2**24 colours.

Shapes: B pairs, P = (real, fake), C = RGB.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from train.ops.jitter_tables import Array, constant, look_up

if TYPE_CHECKING:
    import torch

    from train.draws.parameters import PhotometricDraws

_CONTRAST = 1  # place in `train.draws.parameters.JITTER`


def adjust_brightness(x: Array, factor: float | Array) -> Array:
    """ImageEnhance.Brightness."""
    return _levels(x * _single(factor))


def adjust_contrast(x: Array, factor: float | Array, mean: float | Array) -> Array:
    """ImageEnhance.Contrast with a given mean grey, an integer level."""
    return blend(_single(mean), x, factor)


def adjust_saturation(x: Array, factor: float | Array) -> Array:
    """ImageEnhance.Color."""
    return blend(grey(x), x, factor)


def adjust_hue(x: Array, hue: float | Array) -> Array:
    """Turns the hue as torchvision does for a PIL image: through 8-bit HSV, also for a turn of 0.

    Args:
        x: levels.
        hue: turn in -.5 .. .5, where 1 is a full turn; an array must be float64.
    """
    xp = _library(x)
    r, g, b = x[..., 0:1, :, :], x[..., 1:2, :, :], x[..., 2:3, :, :]
    value, least = xp.maximum(xp.maximum(r, g), b), xp.minimum(xp.minimum(r, g), b)
    turned = look_up("hue", _hue_place(r, g, b))
    turned += _byte(hue * 255)
    # Pillow subtracts value * saturation * share / 255 from a channel. Along the hue circle the share rises
    # from 0 to 1 and falls again, in 85 steps each. So the amount is an integer divided by 255 * 85, which
    # is far enough from a half that float32 rounds it correctly.
    taken = _single(turned) - constant("centre", x)
    xp.abs(taken, out=taken)
    xp.clip(taken, 42.5, 85, out=taken)
    taken -= constant("offset", x)
    xp.abs(taken, out=taken)
    taken *= look_up("chroma", value * 257 - least)
    xp.round(taken, out=taken)
    return xp.subtract(value, taken, out=taken)


def grey(x: Array) -> Array:
    """ITU-R 601 luma (..., 1, H, W), as Pillow's `convert("L")`.

    It is exact in float32, because the sums are below 2**8 and multiples of 2**-16.
    """
    luma = x[..., 0:1, :, :] * (19595 / 65536)
    _add(luma, x[..., 1:2, :, :], 38470 / 65536)
    _add(luma, x[..., 2:3, :, :], 7471 / 65536)
    luma += 0.5
    return _library(x).floor(luma, out=luma)


def blend(low: float | Array, x: Array, factor: float | Array) -> Array:
    """Image.blend: `low` for factor 0, `x` for factor 1; larger factors extrapolate."""
    mixed = x - low
    mixed *= _single(factor)
    mixed += low
    return _levels(mixed)


def mixed(real: Array, fake: Array, fake_weight: float | Array) -> Array:
    """The mixture w fake + (1 - w) real of float64 levels, rounded half to even."""
    return _library(fake).round(fake_weight * fake + (1 - fake_weight) * real)


def jitter(
    x: Array,
    order: Sequence[int],
    brightness: float | Array,
    contrast: float | Array,
    saturation: float | Array,
    hue: float | Array,
    *,
    mean: float | Array,
) -> Array:
    """Applies the ops in `order`.

    Args:
        x: levels.
        order: indices of `train.draws.parameters.JITTER`, from the first op to the last; may name fewer
            than four ops.
        brightness: factor.
        contrast: factor.
        saturation: factor.
        hue: turn; 1 is a full turn.
        mean: grey level for contrast; not used if `order` has no contrast.
    """
    for number in order:
        if number == _CONTRAST:
            x = adjust_contrast(x, contrast, mean)
        else:
            x = _PLAIN[number](x, (brightness, contrast, saturation, hue)[number])
    return x


_PLAIN = {0: adjust_brightness, 2: adjust_saturation, 3: adjust_hue}


def grey_means(
    x_NCHW: Pixels,
    weights_N: Sequence[NDArray[np.float64]],
    order: Sequence[int],
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> list[int]:
    """Mean grey levels of N uint8 images before the contrast op, after the ops before it; see `jitter`.

    Args:
        x_NCHW: the images.
        weights_N: for each image the weights of its H * W pixels, whole numbers.
        order: see `jitter`, as the others.
        brightness: factor.
        contrast: not used.
        saturation: factor.
        hue: turn.
    """
    x = np.ascontiguousarray(x_NCHW, np.float32)
    before = order[: list(order).index(_CONTRAST)]
    x = jitter(x, before, brightness, contrast, saturation, hue, mean=0)
    # In float64 the sum of the levels is exact; in float32 it would be rounded.
    levels_NP = grey(x).reshape(len(x), -1).astype(np.float64)
    sums = [(levels @ weights, weights.sum()) for levels, weights in zip(levels_NP, weights_N, strict=True)]
    return [int(total / weight + 0.5) for total, weight in sums]


def jitter_batch(x_BPCHW: "torch.Tensor", draws: "PhotometricDraws", mean_BP: Array) -> "torch.Tensor":
    """Applies the jitter to the pairs that drew it: on a CPU image by image, on a GPU by groups of equal ops.

    Args:
        x_BPCHW: uint8, on any device.
        draws: the parameters of the same pairs, on the host.
        mean_BP: int64 grey levels for contrast, on the host.

    Returns:
        A new uint8 tensor.
    """
    rows = np.flatnonzero(np.asarray(draws.jitter))
    orders, means = np.asarray(draws.order)[rows], np.asarray(mean_BP)[rows]
    named = (draws.brightness, draws.contrast, draws.saturation, draws.hue)
    amounts = np.stack([np.asarray(one) for one in named], axis=1)[rows]
    # On a GPU a kernel for each image would cost more than its work.
    run = _by_image if x_BPCHW.device.type == "cpu" else _by_op
    out = x_BPCHW.clone()
    run(out, rows, orders, amounts, means)
    return out


def _by_image(
    out_BPCHW: "torch.Tensor",
    rows: NDArray[np.int64],
    orders: NDArray[np.int64],
    amounts: NDArray[np.float64],
    means: NDArray[np.int64],
) -> None:
    from train.ops import cpu

    pixels_BPCHW = out_BPCHW.numpy()
    for row, order, amount, mean_P in zip(rows, orders, amounts, means, strict=True):
        for image_CHW, mean in zip(pixels_BPCHW[row], mean_P, strict=True):
            cpu.jitter_image(image_CHW, order, amount, mean)


def _by_op(
    out_BPCHW: "torch.Tensor",
    rows: NDArray[np.int64],
    orders: NDArray[np.int64],
    amounts: NDArray[np.float64],
    means: NDArray[np.int64],
) -> None:
    """For n = 1 to 4, applies each op to all pairs whose n-th op it is.

    All parameters go to the device in one table, and nothing waits for the device.
    """
    import torch

    groups = [(op, np.flatnonzero(orders[:, step] == op)) for step in range(4) for op in range(4)]
    parts = [np.column_stack([rows[at], amounts[at, op], means[at]]) for op, at in groups]
    table = torch.from_numpy(np.concatenate(parts)).to(out_BPCHW.device, non_blocking=True)
    for (op, _), part in zip(groups, torch.split(table, [len(one) for one in parts]), strict=True):
        if not len(part):
            continue
        index, amount = part[:, 0].long(), part[:, 1].view(-1, 1, 1, 1, 1)
        mean = part[:, 2:].reshape(len(part), -1, 1, 1, 1)
        x = out_BPCHW.index_select(0, index).float()
        x = adjust_contrast(x, amount, mean) if op == _CONTRAST else _PLAIN[op](x, amount)
        out_BPCHW.index_copy_(0, index, x.short().byte())


def _levels(x: Array) -> Array:
    """Clips and truncates to integer levels, in place."""
    xp = _library(x)
    return xp.floor(xp.clip(x, 0, 255, out=x), out=x)


def _add(total: Array, x: Array, weight: float) -> None:
    """Adds weight * x in place, for tensors in one pass; all sums here are exact in any order."""
    if isinstance(total, np.ndarray):
        total += x * weight
    else:
        total.add_(x, alpha=weight)


def _hue_place(r: Array, g: Array, b: Array) -> Array:
    """The index of a colour in the table "hue"; exact in float32."""
    place = r * 512
    place += g
    _add(place, b, -513)
    place += 255 * 513
    return place


def _library(x: Array) -> Any:
    """The module with the functions for this kind of array: numpy or torch."""
    if isinstance(x, np.ndarray):
        return np
    import torch

    return torch


def _single(number: float | Array) -> Any:
    """An array as float32; a plain number as float."""
    if isinstance(number, float | int | np.number):
        return float(number)  # a numpy float64 would turn a float32 array into float64
    return number.astype(np.float32) if isinstance(number, np.ndarray) else number.float()


def _byte(number: float | Array) -> Any:
    """Truncates, and takes the result modulo 256."""
    if isinstance(number, float | int | np.number):
        return int(number) % 256
    whole = number.astype(np.int32) if isinstance(number, np.ndarray) else number.int()
    return whole.astype(np.uint8) if isinstance(whole, np.ndarray) else whole.byte()
