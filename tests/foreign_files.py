"""Small random autoencoders, and the same weights in files as other programs keep them.

The names are turned here from diffusers' to the authors', by rules of their own: the product turns them back.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

Tensors = Mapping[str, torch.Tensor]

BLOCKS: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TINY: dict[str, Any] = {
    "encoder_block_out_channels": (8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8),
    "num_encoder_blocks": (1, 2, 3),
    "num_decoder_blocks": (3, 2, 1),
}


def random_model(model_class: str, folder: Path, **settings: Any) -> torch.nn.Module:
    """Writes a random model by save_pretrained."""
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, model_class)(**settings)
    for name, buffer in model.named_buffers():
        if name.startswith("bn.running"):
            buffer.uniform_(0.5, 1)
    model.save_pretrained(folder)
    assert isinstance(model, torch.nn.Module)
    return model


def ldm_tensors(
    model: torch.nn.Module, prefix: str = "", inner_quant: bool = False
) -> dict[str, torch.Tensor]:
    """The weights under the names of CompVis' and Black Forest Labs' code; 1x1 convolutions for attention."""
    found = model.state_dict()
    stages = 1 + max(int(number) for name in found for number in re.findall(r"up_blocks\.(\d+)", name))
    return {prefix + _ldm_name(name, stages, inner_quant): _kept(name, one) for name, one in found.items()}


def _kept(name: str, tensor: torch.Tensor) -> torch.Tensor:
    linear = "attentions" in name and name.endswith("weight") and tensor.ndim == 2
    return tensor[:, :, None, None] if linear else tensor


def _ldm_name(name: str, stages: int, inner_quant: bool) -> str:
    if inner_quant and name.startswith(("quant_conv", "post_quant_conv")):
        return f"{'encoder' if name.startswith('quant') else 'decoder'}.{name}"
    part, _, rest = name.partition(".")
    words = rest.split(".")
    if words[0] in ("down_blocks", "up_blocks"):
        direction = words[0].split("_")[0]
        stage = int(words[1]) if direction == "down" else stages - 1 - int(words[1])
        return f"{part}.{direction}.{stage}.{_in_stage(words[2:], direction)}"
    if words[0] == "mid_block":
        kind = f"block_{int(words[2]) + 1}" if words[1] == "resnets" else f"attn_{int(words[2]) + 1}"
        return f"{part}.mid.{kind}.{_layer(words[3:])}"
    return name.replace("conv_norm_out", "norm_out")


def _in_stage(words: list[str], direction: str) -> str:
    if words[0] == f"{direction}samplers":
        return f"{direction}sample.{'.'.join(words[2:])}"
    return f"{'block' if words[0] == 'resnets' else 'attn'}.{words[1]}.{_layer(words[2:])}"


def _layer(words: list[str]) -> str:
    text = ".".join(words)
    for ours, theirs in {
        "conv_shortcut": "nin_shortcut",
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }.items():
        text = text.replace(ours, theirs)
    return text


def taesd_halves(model: torch.nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Encoder and decoder with the numbered layers of madebyollin/taesd."""
    halves: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in model.state_dict().items():
        half, _, number, rest = name.split(".", 3)
        halves[half][f"{int(number) + (half == 'decoder')}.{rest}"] = tensor
    return halves


def save_tensors(tensors: Tensors, path: Path, **beside: Any) -> Path:
    """Writes safetensors or, by the suffix, a pickle; `beside` wraps the weights of a .ckpt."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save({"state_dict": dict(tensors), **beside} if path.suffix == ".ckpt" else dict(tensors), path)
    return path
