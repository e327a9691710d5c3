"""Colour jitter in Pillow's 8-bit steps, bit for bit, on numpy arrays and torch tensors alike.

An image is a float32 array (..., 3, H, W) of whole levels 0..255. Factors, turns and means are
numbers, or arrays that broadcast against it: (n, 1, 1, 1) for one of each image. No function changes
its arguments. Torch is not imported before a tensor comes: the loading process has none.

Sources: `ImagingBlend` (Blend.c), `rgb2l`, `rgb2hsv_row` and `hsv2rgb` (Convert.c) and ImageEnhance.py
of Pillow; `adjust_hue` of torchvision's _functional_pil.py. On all 2**24 colours: the tests.

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
    """ImageEnhance.Contrast, its mean grey (a whole level) given."""
    return blend(_single(mean), x, factor)


def adjust_saturation(x: Array, factor: float | Array) -> Array:
    """ImageEnhance.Color."""
    return blend(grey(x), x, factor)


def adjust_hue(x: Array, hue: float | Array) -> Array:
    """Turns the hue as torchvision turns that of a PIL image: through 8-bit HSV, whatever the turn.

    Args:
        x: levels.
        hue: of the circle, -.5 ... .5; as an array, float64.
    """
    xp = _library(x)
    r, g, b = x[..., 0:1, :, :], x[..., 1:2, :, :], x[..., 2:3, :, :]
    value, least = xp.maximum(xp.maximum(r, g), b), xp.minimum(xp.minimum(r, g), b)
    turned = look_up("hue", _hue_place(r, g, b))
    turned += _byte(hue * 255)
    # Pillow takes value * saturation * share / 255 off a channel; along the circle the share rises
    # from 0 to 1 and falls back, in 85 steps each way. So this is a whole number's quotient by
    # 255 * 85, and lies too far from a half for float32 to round it wrongly.
    taken = _single(turned) - constant("centre", x)
    xp.abs(taken, out=taken)
    xp.clip(taken, 42.5, 85, out=taken)
    taken -= constant("offset", x)
    xp.abs(taken, out=taken)
    taken *= look_up("chroma", value * 257 - least)
    xp.round(taken, out=taken)
    return xp.subtract(value, taken, out=taken)


def grey(x: Array) -> Array:
    """ITU-R 601 luma (..., 1, H, W), as `convert("L")`.

    Exact in float32, being below 2**8 and in steps of 2**-16.
    """
    luma = x[..., 0:1, :, :] * (19595 / 65536)
    _add(luma, x[..., 1:2, :, :], 38470 / 65536)
    _add(luma, x[..., 2:3, :, :], 7471 / 65536)
    luma += 0.5
    return _library(x).floor(luma, out=luma)


def blend(low: float | Array, x: Array, factor: float | Array) -> Array:
    """Image.blend: `low` at factor 0, `x` at 1, and beyond."""
    mixed = x - low
    mixed *= _single(factor)
    mixed += low
    return _levels(mixed)


def mixed(real: Array, fake: Array, fake_weight: float | Array) -> Array:
    """W fake + (1 - w) real, of float64 levels; rounded, halves to even."""
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
    """Applies ops.

    Args:
        x: levels.
        order: places in `train.draws.parameters.JITTER`, from the first op to the last; fewer than
            four do the ops they name.
        brightness: factor.
        contrast: factor.
        saturation: factor.
        hue: turn, of the circle.
        mean: grey level for contrast; whatever, where `order` has none.
    """
    for number in order:
        if number == _CONTRAST:
            x = adjust_contrast(x, contrast, mean)
        else:
            x = _PLAIN[number](x, (brightness, contrast, saturation, hue)[number])
    return x


_PLAIN = {0: adjust_brightness, 2: adjust_saturation, 3: adjust_hue}


def grey_means(
    x_NCHW: Pixels, order: Sequence[int], brightness: float, contrast: float, saturation: float, hue: float
) -> list[int]:
    """Mean grey levels that contrast meets in its place of the order: of N uint8 images; see `jitter`."""
    x = np.ascontiguousarray(x_NCHW, np.float32)
    before = order[: list(order).index(_CONTRAST)]
    x = jitter(x, before, brightness, contrast, saturation, hue, mean=0)
    return [int(mean + 0.5) for mean in grey(x).mean(axis=(1, 2, 3), dtype=np.float64)]


def jitter_batch(x_BPCHW: "torch.Tensor", draws: "PhotometricDraws", mean_BP: Array) -> "torch.Tensor":
    """Jitters those pairs that drew it; on a CPU image by image, elsewhere all that have an op in common.

    Args:
        x_BPCHW: uint8, on any device.
        draws: of the same pairs, on the host.
        mean_BP: int64 grey levels for contrast, on the host.

    Returns:
        A new uint8 tensor.
    """
    rows = np.flatnonzero(np.asarray(draws.jitter))
    orders, means = np.asarray(draws.order)[rows], np.asarray(mean_BP)[rows]
    named = (draws.brightness, draws.contrast, draws.saturation, draws.hue)
    amounts = np.stack([np.asarray(one) for one in named], axis=1)[rows]
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
    """The pairs whose n-th op is the same go through it together; one transfer, no synchronisation."""
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
    """To whole levels, in place: clipped and truncated."""
    xp = _library(x)
    return xp.floor(xp.clip(x, 0, 255, out=x), out=x)


def _add(total: Array, x: Array, weight: float) -> None:
    """Adds weight * x, in one pass where that is offered; all our sums are exact, in whatever order."""
    if isinstance(total, np.ndarray):
        total += x * weight
    else:
        total.add_(x, alpha=weight)


def _hue_place(r: Array, g: Array, b: Array) -> Array:
    """Where the table "hue" has the hue of a colour; exact in float32."""
    place = r * 512
    place += g
    _add(place, b, -513)
    place += 255 * 513
    return place


def _library(x: Array) -> Any:
    """The module that has the functions for an array."""
    if isinstance(x, np.ndarray):
        return np
    import torch

    return torch


def _single(number: float | Array) -> Any:
    """An array as float32; a plain number adapts by itself."""
    if isinstance(number, float | int | np.number):
        return float(number)  # numpy's float64, which is a float, would not
    return number.astype(np.float32) if isinstance(number, np.ndarray) else number.float()


def _byte(number: float | Array) -> Any:
    """Truncated, and modulo 256."""
    if isinstance(number, float | int | np.number):
        return int(number) % 256
    whole = number.astype(np.int32) if isinstance(number, np.ndarray) else number.int()
    return whole.astype(np.uint8) if isinstance(whole, np.ndarray) else whole.byte()
