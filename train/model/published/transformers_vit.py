"""The ViT of transformers: its config and its names of tensors, as those of timm.

Source: ``ViTForImageClassification``, ``ViTConfig`` and ``ViTImageProcessor`` of transformers. timm's
LayerNorm adds 1e-6 to the variance and transformers' 1e-12, and transformers 5 resizes by torchvision's
tensors, whose levels are Pillow's within one. With random weights, logits of about 1 differed by 3e-5 without
resizing, and by 1e-3 with it.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recon.base.errors import UserError
from train.model.backbones import TIMM

_SIZES = {(192, 12, 3): "tiny", (384, 12, 6): "small", (768, 12, 12): "base", (1024, 24, 16): "large"}
"""timm's names by width, layers and heads."""
_RESAMPLERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""By the numbers of Pillow's filters."""
_LAYER = re.compile(r"vit\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_NAMES = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "vit.layernorm": "norm",
    "classifier": "head",
}
_IN_LAYER = {
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}
_QKV = tuple(f"attention.attention.{one}" for one in ("query", "key", "value"))


def vit_backbone(found: Mapping[str, Any], where: str) -> str:
    """The timm model of a config; UserError: it has another size or form than timm's."""
    size = found["hidden_size"], found["num_hidden_layers"], found["num_attention_heads"]
    usual = found.get("hidden_act", "gelu") == "gelu" and found.get("qkv_bias", True)
    if size not in _SIZES or found.get("intermediate_size", 4 * size[0]) != 4 * size[0] or not usual:
        raise UserError(
            f"{where}: a ViT of width, layers, heads {size}, expected one of "
            f"{', '.join(map(str, _SIZES))} with hidden layers four times as wide, gelu, and biases"
        )
    return f"{TIMM}vit_{_SIZES[size]}_patch{found['patch_size']}_224@{found['image_size']}"


def vit_outputs(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the outputs in their order."""
    names = found.get("id2label") or {}
    return tuple(str(names[key]) for key in sorted(names, key=int))


def vit_view(processor: Mapping[str, Any], side: int) -> str:
    """What ``preprocessor_config.json`` does to an image, as a name of ``--view``."""
    size = processor.get("size", side)
    if isinstance(size, int):
        shown = f"{size}x{size}"
    elif "shortest_edge" in size:
        shown = str(size["shortest_edge"])
    else:
        shown = f"{size['height']}x{size['width']}"
    resampler, steps = _RESAMPLERS[processor.get("resample", 2)], []
    if processor.get("do_resize", True):
        steps.append(resize_step(shown, resampler))
    if processor.get("do_center_crop"):
        crop = processor.get("crop_size", side)
        steps.append(f"crop:{crop if isinstance(crop, int) else crop['height']}")
    return "+".join(steps) or "whole"


def resize_step(size: str, resampler: str) -> str:
    """A step of ``--view``, which leaves out the usual filter."""
    return f"resize:{size}" if resampler == "bilinear" else f"resize:{size}:{resampler}"


def vit_tensors(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors with timm's names; unknown names become others that no model has, so that loading tells."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        inner = _LAYER.fullmatch(name)
        if inner and inner[2] in _QKV:
            continue
        if inner:
            found[f"blocks.{inner[1]}.{_IN_LAYER.get(inner[2], inner[2])}.{inner[3]}"] = value
            continue
        whole, _, last = name.rpartition(".")
        found[_NAMES.get(name) or f"{_NAMES.get(whole, whole)}.{last}"] = value
    return found | _joined(state, where)


def _joined(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """One layer of query, key and value, as timm has it."""
    found: dict[str, Tensor] = {}
    for name in state:
        inner = _LAYER.fullmatch(name)
        if not inner or inner[2] != _QKV[0]:
            continue
        parts = [f"vit.encoder.layer.{inner[1]}.{one}.{inner[3]}" for one in _QKV]
        if missing := [part for part in parts if part not in state]:
            raise UserError(f"{where}: expected {missing[0]} beside {name}, found none")
        found[f"blocks.{inner[1]}.attn.qkv.{inner[3]}"] = torch.cat([state[part] for part in parts])
    return found
