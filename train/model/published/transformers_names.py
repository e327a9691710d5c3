"""The vision transformers of transformers, ViT, DINOv2, DINOv3 and CLIP's, with the names of timm's.

Source: ``modeling_vit.py``, ``modeling_dinov2.py``, ``modeling_dinov2_with_registers.py``,
``modeling_dinov3_vit.py`` and ``modeling_clip.py`` of transformers 4 and 5, whose names differ.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from recon.base.errors import UserError

_OUTER = ("vit.", "dinov2.", "dinov2_with_registers.", "dinov3_vit.", "vision_model.", "model.", "encoder.")
"""Modules around the network in its names."""
_LAYER = re.compile(r"layers?\.(\d+)\.(.+)\.(weight|bias|lambda1)")
_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.class_embedding": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.position_embedding.weight": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.patch_embeddings": "patch_embed.proj",
    "embeddings.patch_embedding": "patch_embed.proj",
    "pre_layrnorm": "norm_pre",
    "layernorm": "norm",
    "post_layernorm": "norm",
    "classifier": "head",
    "visual_projection": "head",
}
_UNUSED = ("embeddings.mask_token", "pooler.", "embeddings.position_ids", "text_model.", "text_projection.")
"""What only a pretraining or another network used."""
_IN_LAYER = {
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "self_attn.out_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "mlp.up_proj": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.down_proj": "mlp.fc2",
    "mlp.gate_proj": "mlp.fc1_g",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "layernorm_before": "norm1",
    "layer_norm1": "norm1",
    "layernorm_after": "norm2",
    "layer_norm2": "norm2",
}
_QKV = re.compile(r"(attention\.attention|attention|self_attn)\.(query|key|value|q_proj|k_proj|v_proj)")


def is_of_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of one of these networks."""
    ends = ("embeddings.cls_token", "embeddings.class_embedding")
    return any(_inner(name) in ends for name in state)


def timm_tensors(state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors with timm's names; unknown names stay, so that loading tells.

    Args:
        state: those of transformers.
        own: those of the timm model that gets them, which tell the forms that timm has of one thing.
        where: the file, for messages.

    Raises:
        UserError: a layer has not all of query, key and value.
    """
    found: dict[str, Tensor] = {}
    joined: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, value in ((_inner(name), value) for name, value in state.items()):
        if name.startswith(_UNUSED) or name == "logit_scale":
            continue
        layer = _LAYER.fullmatch(name)
        part = layer and _QKV.fullmatch(layer[2])
        if layer and part:
            joined.setdefault((layer[1], layer[3]), {})[part[2][0]] = value
        elif layer:
            found[_in_layer(layer, own)] = value
        else:
            found[_outside(name)] = value
    for (number, end), parts in joined.items():
        found |= _qkv(f"blocks.{number}.attn.", end, parts, own, where)
    return _shaped(found, own)


def _inner(name: str) -> str:
    for outer in _OUTER:
        name = name.removeprefix(outer)
    return name


def _in_layer(layer: re.Match[str], own: Mapping[str, Tensor]) -> str:
    block, kind, end = f"blocks.{layer[1]}.", layer[2], layer[3]
    if end == "lambda1":  # layer_scale1, layer_scale2
        number = kind.removeprefix("layer_scale")
        return f"{block}gamma_{number}" if f"{block}gamma_{number}" in own else f"{block}ls{number}.gamma"
    gated = kind == "mlp.up_proj" and f"{block}mlp.fc1_x.{end}" in own
    return f"{block}{'mlp.fc1_x' if gated else _IN_LAYER.get(kind, kind)}.{end}"


def _outside(name: str) -> str:
    whole, _, last = name.rpartition(".")
    return _NAMES.get(name) or f"{_NAMES.get(whole, whole)}.{last}"


def _qkv(
    attention: str, end: str, parts: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """One layer of query, key and value, as timm has it; DINOv3 has no bias of the key."""
    missing = [one for one in "qkv" if one not in parts and not (one == "k" and end == "bias")]
    if missing:
        raise UserError(
            f"{where}: expected query, key and value of {attention}qkv.{end}, found no {missing[0]}"
        )
    name = f"{attention}qkv.{end}"
    if "k" in parts and (name in own or end == "weight"):
        return {name: torch.cat([parts[one] for one in "qkv"])}
    if f"{attention}q_bias" in own:
        return {f"{attention}{one}_bias": parts[one] for one in "qv"}
    if not any(bool(value.any()) for value in parts.values()):
        return {}  # biases of 0 for a model without them
    return {name: torch.cat([parts.get(one, torch.zeros_like(parts["q"])) for one in "qkv"])}


def _shaped(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tokens and positions in timm's form."""
    for name, value in found.items():
        if name in ("cls_token", "pos_embed") and value.ndim < 3:  # CLIP's are (D,) and (N, D)
            found[name] = value.reshape(1, -1, value.shape[-1])
    table = found.get("pos_embed")
    if table is not None and "reg_token" in own:
        # With registers, timm's table has no row of the class token: it is in the token itself.
        found["cls_token"] = found["cls_token"] + table[:, :1]
        found["pos_embed"] = table[:, 1:]
    return found
