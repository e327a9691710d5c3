"""JPEG compression of uint8 windows; the pixels are bit for bit those of libjpeg-turbo on the whole image.

4:2:0, "islow" DCT, triangle ("fancy") chroma upsampling, as in Pillow's ``save(quality=q)`` and load. The
code does the codec's integer arithmetic but writes no file: on a CPU in loops over the pixels, on a GPU with
tensors.

    B pairs, P = (real, fake), C = RGB or YCbCr, H x W
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from recon.image.codec import recompress
from train.ops.dct import code_blocks, quality_steps

Numbers = NDArray[np.int64] | torch.Tensor

# jccolor.c and jdcolor.c, in 16-bit fixed point; float64 holds every product and sum exactly.
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_TO_YCC_OFFSET = (1 << 15, (128 << 16) + (1 << 15) - 1, (128 << 16) + (1 << 15) - 1)
_TO_RGB = ((0, 91881), (-22554, -46802), (116130, 0))  # factors of Cb - 128 and Cr - 128; Y is added
_NARROW = 4  # pixels; up to this width there are 1 or 2 columns of chroma, which libjpeg only repeats


def jpeg(x_BPCHW: torch.Tensor, quality_B: Numbers, extent_B2: Numbers) -> torch.Tensor:
    """Compresses each pair with its own quality, and decompresses it.

    Args:
        x_BPCHW: uint8 part of an image; its top left pixel lies on the image's grid of 16 pixels.
        quality_B: int64, 1..100; a pair with 0 does not change.
        extent_B2: int64 height and width, 1..H and 1..W, of the part to compress; the rest does not change.
            The extent must end at the edge of the image or on its grid of 16 pixels.

    Returns:
        uint8 of the same shape. At a border of the extent that is not a border of the image, two rows or
        columns may differ from the whole image's, because the neighbours of their chroma are unknown.
    """
    path = jpeg_loop if x_BPCHW.device.type == "cpu" else jpeg_tensor
    return path(x_BPCHW, quality_B, extent_B2)


def jpeg_loop(x_BPCHW: torch.Tensor, quality_B: Numbers, extent_B2: Numbers) -> torch.Tensor:
    """`jpeg`, one image after the other, in a third of the codec's time."""
    from train.ops import cpu  # imports numba, which only CPUs need

    out_BPCHW = x_BPCHW.clone(memory_format=torch.contiguous_format)
    rows = zip(out_BPCHW.numpy(), quality_B.tolist(), extent_B2.tolist(), strict=True)
    for pair_PCHW, quality, (height, width) in rows:
        for image_CHW in pair_PCHW if quality else ():
            cpu.jpeg_image(image_CHW, height, width, _whole_steps()[quality])
    return out_BPCHW


def jpeg_tensor(x_BPCHW: torch.Tensor, quality_B: Numbers, extent_B2: Numbers) -> torch.Tensor:
    """`jpeg` in tensor arithmetic, for all pairs together."""
    device, (height, width) = x_BPCHW.device, x_BPCHW.shape[-2:]
    quality, extent = (torch.as_tensor(numbers).to(device) for numbers in (quality_B, extent_B2))
    steps_B288 = quality_steps(device)[quality]
    rows_BH = _places(height + -height % 16, extent[:, 0])
    columns_BW = _places(width + -width % 16, extent[:, 1])
    ycc = _rgb_to_ycc(_take(_take(x_BPCHW, rows_BH, -2), columns_BW, -1))
    luma = code_blocks(ycc[:, :, :1], steps_B288[:, None, None, 0])
    # As in libjpeg: columns are replicated before the downsampling, and rows after it, except that a last
    # odd row gets its partner before.
    chroma = _halve(ycc[:, :, 1:])
    chroma = _take(chroma, _places(chroma.shape[-2], (extent[:, 0] + 1) // 2), -2)
    chroma = code_blocks(chroma, steps_B288[:, None, None, 1])
    rgb = ycc_to_rgb(luma, _double(chroma, extent))[..., :height, :width]
    inside_BH = torch.arange(height, device=device) < extent[:, :1] * (quality > 0)[:, None]
    inside_BW = torch.arange(width, device=device) < extent[:, 1:]
    inside = inside_BH[:, None, None, :, None] & inside_BW[:, None, None, None, :]
    return torch.where(inside, rgb.to(torch.uint8), x_BPCHW)


def webp(x_BPCHW: torch.Tensor, quality_B: Numbers, extent_B2: Numbers) -> torch.Tensor:
    """Compresses each pair as lossy WebP; arguments and result as in `jpeg`.

    This always uses the codec on the CPU. WebP predicts each block from its neighbours, beginning at the top
    left of the image, so the pixels differ from those of compressing the whole image.
    """
    out_BPCHW = x_BPCHW.cpu().clone()
    for pair, quality, (height, width) in zip(out_BPCHW, quality_B.tolist(), extent_B2.tolist(), strict=True):
        if quality:
            _recompress(pair[..., :height, :width], quality)
    return out_BPCHW.to(x_BPCHW.device)


def _recompress(x_PCHW: torch.Tensor, quality: int) -> None:
    """Compresses both images of a pair as WebP, in place."""
    for image_CHW in x_PCHW:
        levels = recompress(image_CHW.permute(1, 2, 0).contiguous().numpy(), "webp", quality)
        image_CHW.copy_(torch.tensor(levels).permute(2, 0, 1))


@cache
def _whole_steps() -> NDArray[np.int32]:
    return np.ascontiguousarray(quality_steps(torch.device("cpu")).numpy(), np.int32)


def _places(count: int, extent_B: torch.Tensor) -> torch.Tensor:
    """(B, count) indices 0, 1, ... up to the last one in the pair's extent, which then repeats."""
    return torch.arange(count, device=extent_B.device).minimum(extent_B[:, None] - 1)


def _take(x_BPCHW: torch.Tensor, places_BN: torch.Tensor, dim: int) -> torch.Tensor:
    """Rows (dim -2) or columns (dim -1) of each pair at its own indices."""
    shape = list(x_BPCHW.shape)
    shape[dim] = places_BN.shape[1]
    places = places_BN[:, None, None, :, None] if dim == -2 else places_BN[:, None, None, None, :]
    return x_BPCHW.gather(dim, places.expand(shape))


@cache
def _constants(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    to_ycc, offset, to_rgb = (
        torch.tensor(values, dtype=torch.float64, device=device) / 65536
        for values in (_TO_YCC, _TO_YCC_OFFSET, _TO_RGB)
    )
    return to_ycc, offset[:, None], to_rgb


def _rgb_to_ycc(x_BPCHW: torch.Tensor) -> torch.Tensor:
    matrix, offset, _ = _constants(x_BPCHW.device)
    ycc = torch.matmul(matrix, x_BPCHW.flatten(-2).double()).add_(offset).floor_()
    return ycc.view(x_BPCHW.shape)


def ycc_to_rgb(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Converts colours as jdcolor.c does.

    Args:
        luma: (B, P, 1, H, W) float64, whole levels.
        chroma: (B, P, 2, H, W) Cb and Cr, likewise.

    Returns:
        (B, P, 3, H, W) float64, whole levels 0..255.
    """
    matrix = _constants(luma.device)[2]
    colour = torch.matmul(matrix, (chroma - 128).flatten(-2)).add_(0.5).floor_()
    return colour.view(*luma.shape[:2], 3, *luma.shape[-2:]).add_(luma).clamp_(0, 255)


def _halve(x: torch.Tensor) -> torch.Tensor:
    """Means of 2x2 pixels, rounded alternately down and up along a row (jcsample.c, h2v2_downsample)."""
    rows = x[..., ::2, :] + x[..., 1::2, :]
    total = rows[..., ::2] + rows[..., 1::2]
    bias = torch.arange(total.shape[-1], device=x.device) % 2 + 1
    return total.add_(bias).div_(4).floor_()


def _double(x: torch.Tensor, extent_B2: torch.Tensor) -> torch.Tensor:
    """Triangle filter: 3/4 of the nearer, 1/4 of the farther sample, both axes (jdsample.c, h2v2_fancy)."""
    narrow_B1 = extent_B2[:, 1:] <= _NARROW  # there each sample is its own neighbour, so that it repeats

    def neighbours(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.arange(x.shape[dim], device=x.device)
        last_B1 = (extent_B2[:, dim, None] - 1) // 2
        before = torch.where(narrow_B1, places, (places - 1).clamp(min=0))
        after = torch.where(narrow_B1, places, (places + 1).minimum(last_B1))
        return before, after

    above, below = (x * 3 + _take(x, places, -2) for places in neighbours(-2))
    x = torch.stack([above, below], dim=-2).flatten(-3, -2)
    left, right = (_take(x, places, -1) for places in neighbours(-1))
    x = x * 3
    left, right = (left.add_(x).add_(8).div_(16).floor_(), right.add_(x).add_(7).div_(16).floor_())
    return torch.stack([left, right], dim=-1).flatten(-2)
