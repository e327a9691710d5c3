"""Pixels as a backbone expects them, by name: `NORMALIZATIONS` lists the choices.

Those of the training code of Corvi et al. (ICASSP 2023) and Rajan et al. (ICLR 2025), so that published
detectors get what they were trained on. All run on batches on the images' device.

Shapes: B images, C channels, H rows, W columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recon.base.errors import UserError

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue on the scale 0..1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's red, green and blue on the scale 0..1."""
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
_LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """What is done to the pixels, and what comes out."""

    apply: Callable[[Tensor], Tensor]
    """From float32 levels 0..255, (B, 3, H, W), to float32 (B, `channels`, H', W')."""
    channels: int = 3
    """Channels that the model's first convolution takes."""
    min_side: int = 1
    """Least H and W."""
    std: tuple[float, float, float] | None = None
    """Where it only shifts and scales: what it divides by, on the scale 0..1."""


def normalize(x_B3HW: Tensor, name: str = "resnet") -> Tensor:
    """Normalises images for a backbone.

    Args:
        x_B3HW: uint8 RGB images (B, 3, H, W), or float ones in 0..1; any device.
        name: of `NORMALIZATIONS`.

    Returns:
        float32; for ``resnet`` of the same shape, about -2.1 to 2.7.

    Raises:
        UserError: the name is unknown, or the images are too small for it.
        AssertionError: the input is neither uint8 nor float, so its range is not known.
    """
    chosen = find_normalization(name)
    if min(x_B3HW.shape[-2:]) < chosen.min_side:
        height, width = x_B3HW.shape[-2:]
        raise UserError(
            f"model.normalize={name} needs {chosen.min_side}x{chosen.min_side} pixels, found {width}x{height}"
        )
    if x_B3HW.is_floating_point():
        return chosen.apply(x_B3HW.float() * 255.0)
    assert x_B3HW.dtype is torch.uint8, f"expected uint8 or float images, found {x_B3HW.dtype}"
    if chosen.std and x_B3HW.device.type == "cpu":
        return _looked_up(x_B3HW, name)
    return chosen.apply(x_B3HW.float())


def find_normalization(name: str) -> Normalization:
    """The normalisation of a name.

    Raises:
        UserError: there is none; its text lists the choices.
    """
    if name not in NORMALIZATIONS:
        raise UserError(f"model.normalize={name}, expected one of {', '.join(NORMALIZATIONS)}")
    return NORMALIZATIONS[name]


def _looked_up(x_B3HW: Tensor, name: str) -> Tensor:
    """What a normalisation makes of each level by itself: a tenth of the time that the sums take a CPU."""
    from train.ops import cpu

    out_B3HW = torch.empty(x_B3HW.shape)
    cpu.look_up(x_B3HW.contiguous().numpy(), _table(name), out_B3HW.numpy())
    return out_B3HW


@cache
def _table(name: str) -> NDArray[np.float32]:
    """(3, 256) what becomes of the levels of each channel."""
    levels_1316 = torch.arange(_LEVELS).expand(1, 3, 1, _LEVELS)
    found: NDArray[np.float32] = NORMALIZATIONS[name].apply(levels_1316.float())[0, :, 0].numpy()
    return found


def _affine(x_B3HW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x / 255 - mean) / std by channel, torchvision's ToTensor and Normalize."""
    mean_311 = torch.tensor(mean, device=x_B3HW.device).view(3, 1, 1)
    std_311 = torch.tensor(std, device=x_B3HW.device).view(3, 1, 1)
    return (x_B3HW / 255.0).sub_(mean_311).div_(std_311)  # in place: a third less memory is passed through


def _npr(x_B3HW: Tensor) -> Tensor:
    """X minus its nearest down- and up-sampling by 2, times 2/3; an odd last row or column is cut off.

    Neighbouring pixel relationships: Tan et al., CVPR 2024, of ``resnet``'s x.
    """
    x_B3HW = _affine(x_B3HW, MEAN, STD)
    x_B3HW = x_B3HW[..., : x_B3HW.shape[-2] // 2 * 2, : x_B3HW.shape[-1] // 2 * 2]
    coarse_B3HW = F.interpolate(x_B3HW[..., ::2, ::2], scale_factor=2.0, mode="nearest")
    return (x_B3HW - coarse_B3HW) * 2.0 / 3.0


def _residue3(x_B3HW: Tensor) -> Tensor:
    """Third-order differences of levels / 32: down the columns (3 channels), then along the rows (3).

    Value (y, x) is -p[-1] + 3 p[0] - 3 p[1] + p[2] about pixel (y + 2, x + 2). Only pixels at least two
    from every border have one, so (H, W) become (H - 4, W - 4). After Cozzolino et al., WIFS 2014.
    """
    height, width = x_B3HW.shape[-2:]
    x_B3HW = x_B3HW / 32.0

    def at(down: int, right: int) -> Tensor:
        return x_B3HW[..., 2 + down : height - 2 + down, 2 + right : width - 2 + right]

    vertical = -at(-1, 0) + 3 * at(0, 0) - 3 * at(1, 0) + at(2, 0)
    horizontal = -at(0, -1) + 3 * at(0, 0) - 3 * at(0, 1) + at(0, 2)
    return torch.cat([vertical, horizontal], dim=1)


def _spec(x_B3HW: Tensor) -> Tensor:
    """log(|FFT| + .001) by channel, its 5th..95th percentile scaled to -1..1 and clipped there.

    The zero frequency is at (0, 0), as in the code that it comes from.
    """
    log_B3HW = (torch.fft.fft2(x_B3HW / 255.0).abs() + 1e-3).log()
    low, high = _percentiles(log_B3HW.flatten(-2), 5.0, 95.0)
    spread = (high - low)[..., None, None]
    spread = torch.where(spread > 0, spread, spread + torch.finfo(torch.float64).eps)
    scaled_B3HW: Tensor = ((log_B3HW - low[..., None, None]) / spread - 0.5) * 2.0
    return scaled_B3HW.clamp(-1.0, 1.0)


def _percentiles(x_n: Tensor, *percents: float) -> list[Tensor]:
    """Percentiles of the last axis, linear between ranks as numpy's; torch.quantile ends at 16M values."""
    sorted_n = x_n.sort(dim=-1).values
    found = []
    for percent in percents:
        rank = percent / 100.0 * (x_n.shape[-1] - 1)
        below = int(rank)
        above = min(below + 1, x_n.shape[-1] - 1)
        found.append(torch.lerp(sorted_n[..., below], sorted_n[..., above], rank - below))
    return found


def _fft2(x_B3HW: Tensor) -> Tensor:
    """Power spectrum of levels / 256, zero frequency at (H // 2, W // 2), divided by 512."""
    shifted_B3HW: Tensor = torch.fft.fftshift(torch.fft.fft2(x_B3HW / 256.0), dim=(-2, -1))
    return shifted_B3HW.abs().square() / 512.0


def _cooc(x_B3HW: Tensor) -> Tensor:
    """Co-occurrence matrices (B, 3, 256, 256): the share of pixels of level i whose lower right has j.

    After Nataraj et al., EI 2019, with the diagonal neighbour of the code that it comes from.
    """
    level_B3HW = x_B3HW.round().long().clamp(0, _LEVELS - 1)
    pair_RN = (level_B3HW[..., :-1, :-1] * _LEVELS + level_B3HW[..., 1:, 1:]).flatten(0, 1).flatten(1)
    planes, pairs = pair_RN.shape
    first_R1 = torch.arange(planes, device=x_B3HW.device)[:, None] * _LEVELS**2
    counts = torch.bincount((pair_RN + first_R1).flatten(), minlength=planes * _LEVELS**2)
    return (counts / pairs).view(*x_B3HW.shape[:2], _LEVELS, _LEVELS)


NORMALIZATIONS: dict[str, Normalization] = {
    "resnet": Normalization(apply=partial(_affine, mean=MEAN, std=STD), std=STD),
    "clip": Normalization(apply=partial(_affine, mean=_CLIP_MEAN, std=_CLIP_STD), std=_CLIP_STD),
    "xception": Normalization(apply=partial(_affine, mean=_HALF, std=_HALF), std=_HALF),
    "npr": Normalization(apply=_npr, min_side=2),
    "residue3": Normalization(apply=_residue3, channels=6, min_side=5),
    "spec": Normalization(apply=_spec),
    "fft2": Normalization(apply=_fft2),
    "cooc": Normalization(apply=_cooc, min_side=2),
}
"""The normalisations by name."""
