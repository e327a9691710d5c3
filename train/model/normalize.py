"""Normalises pixels for a backbone; `NORMALIZATIONS` holds the choices by name.

They are those of the training code of Corvi et al. (ICASSP 2023) and Rajan et al. (ICLR 2025), so that
published detectors get the input that they were trained on. All work on batches, on the images' device.

Shapes: B images, C channels, H rows, W columns.
"""

from collections.abc import Callable, Sequence
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
    """A normalisation, and the shape of its output."""

    apply: Callable[[Tensor], Tensor]
    """Maps float32 levels 0..255, (B, 3, H, W), to float32 (B, `channels`, H', W')."""
    channels: int = 3
    """Number of channels of its output, and so of the model's first convolution."""
    min_side: int = 1
    """Smallest H and W that it accepts."""
    std: tuple[float, float, float] | None = None
    """The divisor on the scale 0..1, if the normalisation only shifts and scales the levels."""


def normalize(x_B3HW: Tensor, name: str = "resnet") -> Tensor:
    """Normalises images for a backbone.

    Args:
        x_B3HW: RGB images (B, 3, H, W), uint8 or float in 0..1; any device.
        name: a name that `find_normalization` knows.

    Returns:
        float32; for ``resnet`` the shape is the same and the values are about -2.1 to 2.7.

    Raises:
        UserError: the name is unknown, or the images are too small.
        AssertionError: the input is neither uint8 nor float, so its range is unknown.
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


@cache
def find_normalization(name: str) -> Normalization:
    """The normalisation with this name; one of `MEAN/STD`, such as ``.5,.5,.5/.2,.2,.2``, is made.

    Raises:
        UserError: the name is unknown; the message lists the choices.
    """
    if name in NORMALIZATIONS:
        return NORMALIZATIONS[name]
    try:
        numbers = [tuple(float(one) for one in half.split(",")) for half in name.split("/")]
        (mean, std), is_whole = numbers, [len(one) for one in numbers] == [3, 3]
    except ValueError:
        mean, std, is_whole = (), (), False
    if not is_whole or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        choices = ", ".join(NORMALIZATIONS)
        raise UserError(
            f"model.normalize={name}, expected one of {choices}, or MEAN/STD of three numbers each"
        )
    return Normalization(apply=partial(_affine, mean=mean, std=std), std=(std[0], std[1], std[2]))


def normalization_name(mean: Sequence[float], std: Sequence[float]) -> str:
    """The name of the normalisation by a mean and a standard deviation on the scale 0..1."""
    for name, (own_mean, own_std) in _AFFINE.items():
        if tuple(mean) == own_mean and tuple(std) == own_std:
            return name
    name = "/".join(",".join(map(repr, map(float, half))) for half in (mean, std))
    find_normalization(name)
    return name


def _looked_up(x_B3HW: Tensor, name: str) -> Tensor:
    """Normalises by a table of the 256 levels: on a CPU this takes a tenth of the arithmetic's time."""
    from train.ops import cpu  # only here: it imports numba, which is slow and large

    out_B3HW = torch.empty(x_B3HW.shape)
    cpu.look_up(x_B3HW.contiguous().numpy(), _table(name), out_B3HW.numpy())
    return out_B3HW


@cache
def _table(name: str) -> NDArray[np.float32]:
    """(3, 256): the normalised value of each level in each channel."""
    levels_1316 = torch.arange(_LEVELS).expand(1, 3, 1, _LEVELS)
    found: NDArray[np.float32] = find_normalization(name).apply(levels_1316.float())[0, :, 0].numpy()
    return found


def _affine(x_B3HW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x / 255 - mean) / std by channel, as torchvision's ToTensor and Normalize."""
    on_gpu = x_B3HW.device.type == "cuda"
    made = _sent_once if on_gpu else _column
    mean_311, std_311 = (made(values, x_B3HW.device) for values in (mean, std))
    return (x_B3HW / 255.0).sub_(mean_311).div_(std_311)  # in place: a third less memory traffic


def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(3, 1, 1) one value for each channel."""
    return torch.tensor(values, device=device).view(3, 1, 1)


@cache
def _sent_once(values: tuple[float, ...], device: torch.device) -> Tensor:
    """`_column`, but a GPU is waited for only the first time."""
    with torch.inference_mode(False):  # training may use it, too
        return _column(values, device)


def _npr(x_B3HW: Tensor) -> Tensor:
    """The difference of x and its nearest down- and up-sampling by 2, times 2/3; x is ``resnet``'s output.

    An odd last row or column is cut off. Neighbouring pixel relationships of Tan et al., CVPR 2024.
    """
    x_B3HW = _affine(x_B3HW, MEAN, STD)
    x_B3HW = x_B3HW[..., : x_B3HW.shape[-2] // 2 * 2, : x_B3HW.shape[-1] // 2 * 2]
    coarse_B3HW = F.interpolate(x_B3HW[..., ::2, ::2], scale_factor=2.0, mode="nearest")
    return (x_B3HW - coarse_B3HW) * 2.0 / 3.0


def _residue3(x_B3HW: Tensor) -> Tensor:
    """Third-order differences of levels / 32: along the columns (3 channels), then along the rows (3).

    Value (y, x) is -p[-1] + 3 p[0] - 3 p[1] + p[2] around pixel (y + 2, x + 2). Pixels less than two away
    from a border have no value, so (H, W) become (H - 4, W - 4). After Cozzolino et al., WIFS 2014.
    """
    height, width = x_B3HW.shape[-2:]
    x_B3HW = x_B3HW / 32.0

    def at(down: int, right: int) -> Tensor:
        return x_B3HW[..., 2 + down : height - 2 + down, 2 + right : width - 2 + right]

    vertical = -at(-1, 0) + 3 * at(0, 0) - 3 * at(1, 0) + at(2, 0)
    horizontal = -at(0, -1) + 3 * at(0, 0) - 3 * at(0, 1) + at(0, 2)
    return torch.cat([vertical, horizontal], dim=1)


def _spec(x_B3HW: Tensor) -> Tensor:
    """log(|FFT| + .001) by channel; its 5th to 95th percentiles are scaled to -1..1, and it is clipped there.

    The zero frequency is at (0, 0), as in the published code.
    """
    log_B3HW = (torch.fft.fft2(x_B3HW / 255.0).abs() + 1e-3).log()
    low, high = _percentiles(log_B3HW.flatten(-2), 5.0, 95.0)
    spread = (high - low)[..., None, None]
    # A black image has a flat spectrum with a spread of 0; adding a tiny number avoids 0 / 0.
    spread = torch.where(spread > 0, spread, spread + torch.finfo(torch.float64).eps)
    scaled_B3HW: Tensor = ((log_B3HW - low[..., None, None]) / spread - 0.5) * 2.0
    return scaled_B3HW.clamp(-1.0, 1.0)


def _percentiles(x_n: Tensor, *percents: float) -> list[Tensor]:
    """Percentiles of the last axis, linear as numpy's; torch.quantile takes at most 16M values."""
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
    """Co-occurrence matrices (B, 3, 256, 256): the share of pixels with level i and lower right neighbour j.

    After Nataraj et al., EI 2019, with the diagonal neighbour as in the published code.
    """
    level_B3HW = x_B3HW.round().long().clamp(0, _LEVELS - 1)
    pair_RN = (level_B3HW[..., :-1, :-1] * _LEVELS + level_B3HW[..., 1:, 1:]).flatten(0, 1).flatten(1)
    planes, pairs = pair_RN.shape
    # One bincount for all planes: each plane's pairs get numbers of their own.
    first_R1 = torch.arange(planes, device=x_B3HW.device)[:, None] * _LEVELS**2
    counts = torch.bincount((pair_RN + first_R1).flatten(), minlength=planes * _LEVELS**2)
    return (counts / pairs).view(*x_B3HW.shape[:2], _LEVELS, _LEVELS)


_AFFINE = {"resnet": (MEAN, STD), "clip": (_CLIP_MEAN, _CLIP_STD), "xception": (_HALF, _HALF)}
"""Mean and standard deviation of those that only shift and scale the levels."""

NORMALIZATIONS: dict[str, Normalization] = {
    **{
        name: Normalization(apply=partial(_affine, mean=mean, std=std), std=std)
        for name, (mean, std) in _AFFINE.items()
    },
    "npr": Normalization(apply=_npr, min_side=2),
    "residue3": Normalization(apply=_residue3, channels=6, min_side=5),
    "spec": Normalization(apply=_spec),
    "fft2": Normalization(apply=_fft2),
    "cooc": Normalization(apply=_cooc, min_side=2),
}
"""The normalisations by name."""
