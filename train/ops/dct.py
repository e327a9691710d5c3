"""The lossy part of libjpeg-turbo on 8x8 blocks: the "islow" DCT, quantisation, and the inverse of both.

Each pass of the fixed-point transform is an integer matrix product with one rounding at its end. float64
holds all these integers and halves exactly, so a float64 matrix product gives the same bits in any order
of additions. Sources: jfdctint.c, jidctint.c, jcdctmgr.c and jcparam.c of libjpeg-turbo 3.

    N any leading dimensions, H and W multiples of 8; M blocks; a block's samples are (8, 8), row first
"""

from functools import cache

import numpy as np
import torch

from recon.image.dct import HALF

_FORWARD_SHIFTS = (11, 15)  # bits that are dropped after the pass over rows, over columns

_INVERSE_SHIFTS = (11, 18)  # the same after the pass over columns, over rows

# Quantisation steps of Annex K of the JPEG standard, for luma and chroma.
_STEPS = (
    (
        (16, 11, 10, 16, 24, 40, 51, 61),
        (12, 12, 14, 19, 26, 58, 60, 55),
        (14, 13, 16, 24, 40, 57, 69, 56),
        (14, 17, 22, 29, 51, 87, 80, 62),
        (18, 22, 37, 56, 68, 109, 103, 77),
        (24, 35, 55, 64, 81, 104, 113, 92),
        (49, 64, 78, 87, 103, 121, 120, 101),
        (72, 92, 95, 98, 112, 100, 103, 99),
    ),
    (
        (17, 18, 24, 47, 99, 99, 99, 99),
        (18, 21, 26, 66, 99, 99, 99, 99),
        (24, 26, 56, 99, 99, 99, 99, 99),
        (47, 66, 99, 99, 99, 99, 99, 99),
        (99, 99, 99, 99, 99, 99, 99, 99),
        (99, 99, 99, 99, 99, 99, 99, 99),
        (99, 99, 99, 99, 99, 99, 99, 99),
        (99, 99, 99, 99, 99, 99, 99, 99),
    ),
)


@cache
def quality_steps(device: torch.device) -> torch.Tensor:
    """(101, 2, 8, 8) float64: quantisation steps by quality, luma and chroma; ones for quality 0."""
    quality = np.arange(1, 101)[:, None, None, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    steps = ((np.array(_STEPS) * percent + 50) // 100).clip(1, 255)
    table = np.concatenate([np.ones((1, 2, 8, 8)), steps])
    return torch.from_numpy(table).to(device)


def code_blocks(x_NHW: torch.Tensor, steps_N88: torch.Tensor) -> torch.Tensor:
    """Applies the DCT, quantises, dequantises, and applies the inverse DCT.

    Args:
        x_NHW: float64 samples, whole levels 0..255.
        steps_N88: float64 quantisation steps; N broadcasts.

    Returns:
        (N, H, W) float64, whole levels 0..255.
    """
    *batch, height, width = x_NHW.shape
    blocks = x_NHW.reshape(*batch, height // 8, 8, width // 8, 8)
    steps = steps_N88[..., None, :, None, :]
    matrix = _matrix(x_NHW.device)
    coefficients = _pass_over_rows(blocks - 128, matrix.T, _FORWARD_SHIFTS[0])
    coefficients = _pass_over_columns(coefficients, matrix, _FORWARD_SHIFTS[1])  # 8 times the DCT's
    # Rounds halves away from zero. libjpeg-turbo's SIMD code multiplies by reciprocals; the quotients agree.
    halves = torch.sign(coefficients) * (4 * steps)
    coefficients = torch.div(coefficients + halves, 8 * steps, rounding_mode="trunc") * steps
    samples = _pass_over_columns(coefficients, matrix.T, _INVERSE_SHIFTS[0])
    samples = _pass_over_rows(samples, matrix, _INVERSE_SHIFTS[1])
    return _levels(samples).view(x_NHW.shape)


def decode_blocks(blocks_M64: torch.Tensor, steps_M64: torch.Tensor) -> torch.Tensor:
    """Dequantises blocks and applies the inverse DCT.

    Args:
        blocks_M64: int16 quantised coefficients, row after row; any numbers, also those of a broken file.
        steps_M64: int32 quantisation steps.

    Returns:
        (M, 64) float64, whole levels 0..255, as `recon.kernels.inverse_dct` computes them.
    """
    matrix = _matrix(blocks_M64.device)
    x = (blocks_M64.int() * steps_M64).double().view(-1, 8, 1, 8)
    x = _wrapped(_pass_over_columns(x, matrix.T, _INVERSE_SHIFTS[0]), 32 - _INVERSE_SHIFTS[0])
    x = _wrapped(_pass_over_rows(x, matrix, _INVERSE_SHIFTS[1]), 32 - _INVERSE_SHIFTS[1])
    return _levels(x).view(-1, 64)


def _wrapped(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Whole numbers as a signed integer of so many bits holds them.

    The compiled loops count in 32 bits, of which a pass drops some. Only senseless coefficients exceed them,
    and their pixels are to be the same everywhere, too.
    """
    half = 2.0 ** (bits - 1)
    return x.add_(half).remainder_(2 * half).sub_(half)


def _levels(samples: torch.Tensor) -> torch.Tensor:
    return samples.add_(128).clamp_(0, 255)


def _pass_over_rows(x: torch.Tensor, matrix_88: torch.Tensor, shift: int) -> torch.Tensor:
    return _round(torch.matmul(x, matrix_88 * 2.0**-shift))


def _pass_over_columns(x: torch.Tensor, matrix_88: torch.Tensor, shift: int) -> torch.Tensor:
    return _round(torch.matmul(matrix_88 * 2.0**-shift, x.flatten(-2))).view(x.shape)


def _round(x: torch.Tensor) -> torch.Tensor:
    return x.add_(0.5).floor_()


@cache
def _matrix(device: torch.device) -> torch.Tensor:
    half = np.array(HALF, np.float64)
    sign = np.where(np.arange(8) % 2, -1.0, 1.0)[:, None]
    return torch.from_numpy(np.concatenate([half, sign * half[:, ::-1]], axis=1)).to(device)
