"""The other ops of the recipe: grey, cutout, noise, sharpening, mixing.

Each op takes uint8 pairs on any device and returns a new uint8 tensor. Its parameters, one for each pair,
are on the host, as numpy arrays or tensors. On a CPU all steps of an op are done for one pair before the
next pair, so that the pair stays in the cache; on a GPU each step is done for all pairs.

Shapes: B pairs, P = (real, fake), C = RGB, H x W.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from train.draws.noise import NORMALS, noise_levels
from train.ops.jitter import blend, grey, mixed
from train.ops.jitter_tables import Array


def to_grey(x_BPCHW: Tensor) -> Tensor:
    """ITU-R 601 luma in all three channels, as Pillow's `convert("L")`."""
    if x_BPCHW.device.type != "cpu":
        return grey_tensor(x_BPCHW)
    from train.ops import cpu  # imports numba, which only CPUs need

    out = x_BPCHW.clone(memory_format=torch.contiguous_format)
    for image_CHW in out.flatten(0, 1).numpy():
        cpu.grey_image(image_CHW)
    return out


def grey_tensor(x_BPCHW: Tensor) -> Tensor:
    """`to_grey` in tensor arithmetic."""
    return _bytes(grey(x_BPCHW.float())).expand_as(x_BPCHW).contiguous()


def cutout(x_BPCHW: Tensor, box_B4: Array, origin_B2: Array, fill: int) -> Tensor:
    """Fills one hole in each pair.

    Args:
        x_BPCHW: windows.
        box_B4: int64 (y1, x1, y2, x2) in coordinates of the augmented image, y2 and x2 excluded; the hole
            may be partly or fully outside the window.
        origin_B2: int64 (top, left) of the windows in the same coordinates.
        fill: level, 0..255.
    """
    out = x_BPCHW.clone()
    for pair, box, (top, left) in zip(out, box_B4.tolist(), origin_B2.tolist(), strict=True):
        y1, y2 = (max(0, y - top) for y in box[::2])
        x1, x2 = (max(0, x - left) for x in box[1::2])
        pair[..., y1:y2, x1:x2] = fill
    return out


def noise(x_BPCHW: Tensor, keys_B: Array, origin_B2: Array, sigma_B: Array) -> Tensor:
    """Adds the noise field of a pair's key to both images of the pair; see `add_noise`.

    Args:
        x_BPCHW: windows.
        keys_B: int64, the result of `train.draws.noise.noise_keys`.
        origin_B2: int64 (top, left) of the windows in the augmented image.
        sigma_B: float64, in levels of 0..255.
    """
    if x_BPCHW.device.type != "cpu":
        return noise_tensor(x_BPCHW, keys_B, origin_B2, sigma_B)
    from train.ops import cpu

    out = x_BPCHW.clone(memory_format=torch.contiguous_format)
    rows = zip(out.numpy(), keys_B.tolist(), origin_B2.tolist(), sigma_B.tolist(), strict=True)
    for pair_PCHW, key, (top, left), sigma in rows:
        cpu.add_noise(pair_PCHW, key, top, left, sigma, NORMALS)
    return out


def noise_tensor(x_BPCHW: Tensor, keys_B: Array, origin_B2: Array, sigma_B: Array) -> Tensor:
    """`noise` in tensor arithmetic, for all pairs together."""
    keys, origins = (_sent(numbers, x_BPCHW.device) for numbers in (keys_B, origin_B2))
    y_H, x_W = (torch.arange(size, device=x_BPCHW.device) for size in x_BPCHW.shape[-2:])
    levels_BCHW = noise_levels(keys, origins[:, :1] + y_H, origins[:, 1:] + x_W)
    return add_noise(x_BPCHW, levels_BCHW, sigma_B)


def add_noise(x_BPCHW: Tensor, levels_BCHW: Tensor, sigma_B: Array) -> Tensor:
    """Adds sigma times a field of normal numbers, the same for both images, then clips and floors.

    Args:
        x_BPCHW: images.
        levels_BCHW: int64, the result of `train.draws.noise.noise_levels`, on the images' device.
        sigma_B: float64, in levels of 0..255. The product with the field is rounded to float32, and the sum
            is, too.
    """
    normals, sigma = _normals(x_BPCHW.device), _per_pair(sigma_B, x_BPCHW).float()
    out = torch.empty_like(x_BPCHW)
    for rows in _parts(x_BPCHW):
        levels = levels_BCHW[rows]
        field_BCHW = normals.index_select(0, levels.reshape(-1)).view(levels.shape)
        noisy = x_BPCHW[rows].float()
        noisy += field_BCHW[:, None] * sigma[rows]
        out[rows] = _bytes(noisy.clamp_(0, 255))
    return out


def sharpen(x_BPCHW: Tensor, amount_B: Array) -> Tensor:
    """Pillow's ImageEnhance.Sharpness with factor 1 + amount: 0 changes nothing, -1 smooths.

    As in Pillow, the outermost rows and columns do not change.

    Args:
        x_BPCHW: images.
        amount_B: float64.
    """
    factor = 1 + _per_pair(amount_B, x_BPCHW)
    out = torch.empty_like(x_BPCHW)
    for rows in _parts(x_BPCHW):
        x = x_BPCHW[rows].float()
        out[rows] = _bytes(blend(_smooth(x), x, factor[rows]))
    return out


def _smooth(x: Tensor) -> Tensor:
    """ImageFilter.SMOOTH: the weighted mean of 3x3 pixels.

    The weights add up to 13. No thirteenth is near a half, so the rounding is safe in float32.
    """
    inner = x[..., 1:-1, 1:-1]
    lines = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    total = lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:]
    total.add_(inner, alpha=4).mul_(1 / 13).round_()
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = total
    return smooth


def mix(x_BPCHW: Tensor, fake_weight_B: Array) -> Tensor:
    """Replaces each fake by w fake + (1 - w) real, rounded half to even; the real images do not change.

    Args:
        x_BPCHW: images.
        fake_weight_B: float64 w, 0..1.
    """
    weight = _per_pair(fake_weight_B, x_BPCHW)[:, 0]
    out = x_BPCHW.clone()
    for rows in _parts(x_BPCHW):
        real, fake = x_BPCHW[rows].double().unbind(1)
        out[rows, 1] = _bytes(mixed(real, fake, weight[rows]))
    return out


def _parts(x_BPCHW: Tensor) -> Iterator[slice]:
    """Slices of the pairs that go through an op together: single pairs on a CPU, all pairs on a GPU."""
    step = 1 if x_BPCHW.device.type == "cpu" else max(1, len(x_BPCHW))
    return (slice(first, first + step) for first in range(0, len(x_BPCHW), step))


def _bytes(levels: Tensor) -> Tensor:
    """Truncates to uint8; the way through int16 takes a third of the time of `byte()` alone on a CPU."""
    return levels.short().byte()


def _per_pair(numbers_B: Array, x_BPCHW: Tensor) -> Tensor:
    return _sent(numbers_B, x_BPCHW.device).view(-1, 1, 1, 1, 1)


def _sent(numbers: Array, device: torch.device) -> Tensor:
    """Sends parameters to the device without waiting for it."""
    return torch.as_tensor(numbers).to(device, non_blocking=True)


@lru_cache
def _normals(device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(NORMALS)).to(device)
