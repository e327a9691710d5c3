"""The tensors of DDA: a DINOv2 with LoRA, merged into a plain one with the names of timm.

Source: Dual-Data-Alignment, ``models/lora.py`` and ``models/dinov2_models_lora.py``: a layer's output is
W x + b + alpha / rank (B A x), so its weight here is W + alpha / rank (B A); the positions are resampled as
in ``interpolate_pos_encoding`` of DINOv2 (``interpolate_offset=0.1``, no antialiasing).

Shapes: R rank, I inputs, O outputs of a layer, D width, N positions of a grid.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.base.errors import UserError
from train.model.backbones import TIMM

BASE, LAYER = "base_model.", ".original_layer."
FACTORS = (".lora.lora_A", ".lora.lora_B")
SIDE = 336
"""The authors score centre crops of this side (``Inference/inference.py``)."""

_WIDTHS = {384: "small", 768: "base", 1024: "large"}
_OFFSET = 0.1


def has_lora(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has LoRA's factors beside its layers."""
    return any("lora" in name for name in state)


def backbone_of(state: Mapping[str, Tensor], where: str) -> str:
    """The timm model of a DINOv2 with LoRA, for inputs of `SIDE` pixels.

    Raises:
        UserError: the names or shapes are not those of DDA.
    """
    token = state.get(f"{BASE}model.cls_token")
    patch = state.get(f"{BASE}model.patch_embed.proj.weight")
    if token is None or patch is None or token.shape[-1] not in _WIDTHS:
        raise UserError(
            f"{where} has LoRA, but not as DDA: expected {BASE}model.cls_token of width "
            f"{', '.join(map(str, _WIDTHS))} and {BASE}model.patch_embed.proj.weight; merge it into its "
            "layers first"
        )
    return f"{TIMM}vit_{_WIDTHS[token.shape[-1]]}_patch{patch.shape[-1]}_dinov2@{SIDE}"


def merged(state: Mapping[str, Tensor], alpha: float | None, positions: int, where: str) -> dict[str, Tensor]:
    """Merges LoRA into its layers.

    Args:
        state: the names of DDA.
        alpha: that of the training; the file does not hold it.
        positions: rows of the position table of the network that gets the tensors, with the class token's;
            0 if it has none.
        where: the file, for messages.

    Returns:
        Tensors with the names of timm's VisionTransformer.

    Raises:
        UserError: alpha is missing, or a layer has only one of the two factors.
    """
    if alpha is None:
        raise UserError(
            f"{where} holds LoRA's factors, but not the alpha that scales them; give --model.lora_alpha "
            "(DDA's code trains with 1)"
        )
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(FACTORS) or name == f"{BASE}model.mask_token":  # which only the pretraining used
            continue
        own = name.replace(LAYER, ".").removeprefix(BASE)
        own = f"head.{own.removeprefix('fc.')}" if own.startswith("fc.") else own.removeprefix("model.")
        found[own] = value
        if name.endswith(f"{LAYER}weight"):
            found[own] = _with_factors(state, name.removesuffix(f"{LAYER}weight"), value, alpha, where)
    if positions and "pos_embed" in found:
        found["pos_embed"] = _resampled(found["pos_embed"], positions)
    return found


def _with_factors(
    state: Mapping[str, Tensor], layer: str, weight_OI: Tensor, alpha: float, where: str
) -> Tensor:
    a_RI, b_OR = (state.get(f"{layer}{end}") for end in FACTORS)
    if a_RI is None or b_OR is None or b_OR.shape[1:] != a_RI.shape[:1]:
        raise UserError(f"{where}: expected {layer}{FACTORS[0]} (R, I) and {FACTORS[1]} (O, R) of one rank R")
    return weight_OI + alpha / a_RI.shape[0] * (b_OR @ a_RI)


def _resampled(table_1ND: Tensor, positions: int) -> Tensor:
    """The position table for another grid; its first row is the class token's."""
    old, new = math.isqrt(table_1ND.shape[1] - 1), math.isqrt(positions - 1)
    if old == new:
        return table_1ND
    grid = table_1ND[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (new + _OFFSET) / old
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([table_1ND[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(table_1ND.dtype)], dim=1)
