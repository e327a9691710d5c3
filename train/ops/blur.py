"""Gaussian blur of uint8 windows, bit for bit equal to `scipy.ndimage.gaussian_filter` of the whole image.

Scipy filters along axis 0, then along axis 1, each time in float64 and truncated to 8 bits.
If a sum is near an integer, as in every flat area, the order of its float64 additions decides the level:
scipy begins with the centre and adds the pairs of equal weight from the outermost to the innermost.

    B pairs, P = (real, fake), C = RGB, H x W, D = distance from the centre
"""

import numpy as np
import torch
from numpy.typing import NDArray

from train.draws.config import blur_radius
from train.ops.gaussian import gaussian_weights

Numbers = NDArray[np.float64] | NDArray[np.int64] | torch.Tensor


def blur(x_BPCHW: torch.Tensor, sigma_B: Numbers, radius_max: int) -> torch.Tensor:
    """Blurs each pair with its own sigma.

    Args:
        x_BPCHW: uint8; a margin of radius_max pixels on every side is read but not blurred. The part of the
            margin that lies outside the image must hold the mirrored image (half-sample symmetric).
        sigma_B: float64, in pixels, 0 for no blur; best on the CPU, because the weights are computed there.
        radius_max: width of the margin; at least `blur_radius` of the largest sigma.

    Returns:
        uint8, H - 2 radius_max by W - 2 radius_max.
    """
    if x_BPCHW.device.type == "cpu":
        return blur_loop(x_BPCHW, sigma_B, radius_max)
    return blur_tensor(x_BPCHW, sigma_B, radius_max)


def blur_loop(x_BPCHW: torch.Tensor, sigma_B: Numbers, radius_max: int) -> torch.Tensor:
    """`blur`, one pair after the other; it reads only the pixels within the pair's own radius."""
    from train.ops import cpu  # imports numba, which only CPUs need

    height, width = (side - 2 * radius_max for side in x_BPCHW.shape[-2:])
    out_BPCHW = torch.empty((*x_BPCHW.shape[:3], height, width), dtype=torch.uint8)
    for x_PCHW, out_PCHW, sigma in zip(x_BPCHW.numpy(), out_BPCHW.numpy(), sigma_B.tolist(), strict=True):
        radius = _checked_radius(sigma, radius_max)
        margin = radius_max - radius
        part = x_PCHW[..., margin : margin + height + 2 * radius, margin : margin + width + 2 * radius]
        part_NHW = np.ascontiguousarray(part).reshape(-1, *part.shape[-2:])
        cpu.blur_planes(
            part_NHW, gaussian_weights(sigma, radius)[radius:], out_PCHW.reshape(-1, height, width)
        )
    return out_BPCHW


def blur_tensor(x_BPCHW: torch.Tensor, sigma_B: Numbers, radius_max: int) -> torch.Tensor:
    """`blur` in float64 tensor arithmetic, for all pairs together."""
    sigmas = sigma_B.tolist()
    radii = [_checked_radius(sigma, radius_max) for sigma in sigmas]
    reach = max(radii, default=0)
    # Outside a pair's own radius the weights are zero. These terms are added first, right after the centre,
    # and adding +0.0 to a number that is not negative changes no bit.
    weights = np.zeros((len(sigmas), reach + 1))
    for row, (sigma, radius) in enumerate(zip(sigmas, radii, strict=True)):
        weights[row, : radius + 1] = gaussian_weights(sigma, radius)[radius:]
    weights_BD = torch.from_numpy(weights).to(x_BPCHW.device)
    margin = radius_max - reach
    height, width = x_BPCHW.shape[-2:]
    part = x_BPCHW[..., margin : height - margin, margin : width - margin].to(torch.int16)
    return _correlate(_correlate(part, weights_BD, -2), weights_BD, -1).to(torch.uint8)


def _correlate(x_BPCHW: torch.Tensor, weights_BD: torch.Tensor, dim: int) -> torch.Tensor:
    """The filter along one axis of int16, truncated to int16; the output has no margin on this axis.

    Must not be compiled: a fused multiply-add rounds once, but scipy rounds the product and the sum.
    """
    reach = weights_BD.shape[1] - 1
    size = x_BPCHW.shape[dim] - 2 * reach
    column_DB1111 = weights_BD.T[..., None, None, None, None]
    total = x_BPCHW.narrow(dim, reach, size) * column_DB1111[0]
    for distance in range(reach, 0, -1):
        # int16 holds the sum of two levels exactly, with a quarter of float64's memory traffic.
        pair = x_BPCHW.narrow(dim, reach - distance, size) + x_BPCHW.narrow(dim, reach + distance, size)
        total += pair * column_DB1111[distance]
    return total.to(torch.int16)


def _checked_radius(sigma: float, radius_max: int) -> int:
    radius = blur_radius(sigma)
    assert radius <= radius_max, f"{sigma=} reaches {radius} px, the window has {radius_max}"
    return radius
