"""The ViT of transformers: what its config states, in our words.

Source: ``ViTForImageClassification``, ``ViTConfig`` and ``ViTImageProcessor`` of transformers. timm's
LayerNorm adds 1e-6 to the variance and transformers' 1e-12, and transformers 5 resizes by torchvision's
tensors, whose levels are Pillow's within one. With random weights, logits of about 1 differed by 3e-5 without
resizing, and by 1e-3 with it.
"""

from collections.abc import Mapping
from typing import Any

from recon.base.errors import UserError
from train.model.backbones import TIMM

_SIZES = {(192, 12, 3): "tiny", (384, 12, 6): "small", (768, 12, 12): "base", (1024, 24, 16): "large"}
"""timm's names by width, layers and heads."""
_RESAMPLERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""By the numbers of Pillow's filters."""


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
