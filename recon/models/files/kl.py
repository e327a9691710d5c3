"""The weights of the latent diffusion family: names of other programs to diffusers', shapes to a config.

Stable Diffusion, SDXL, SD 3, FLUX.1, FLUX.2 and the VQ models of "latent diffusion" are one architecture.
Their authors name its parts as ldm/modules/diffusionmodules/model.py does
(https://github.com/CompVis/latent-diffusion), diffusers in its own way
(`diffusers.loaders.single_file_utils.convert_ldm_vae_checkpoint`). Here every name is turned; a name that no
rule knows stays as it is, and is refused when the model is built.
"""

import re
from collections.abc import Iterable
from typing import Any

from recon.models.files.damage import Shapes

PREFIXES = ("", "first_stage_model.", "vae.")
"""What stands before the names of an autoencoder: alone in its file, or inside a whole model's."""

_FIRST = "encoder.conv_in.weight"
_NOT_USED = ("loss.", "model_ema.")  # of the training, in files that were saved whole
_RULES = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^encoder\.quant_conv\.", "quant_conv."),  # FLUX.2 has both convolutions inside
        (r"^decoder\.post_quant_conv\.", "post_quant_conv."),
        (r"\.norm_out\.", ".conv_norm_out."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"\.(down|up)\.(\d+)\.block\.", r".\1_blocks.\2.resnets."),
        (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
        (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
        (r"\.(down|up)\.(\d+)\.attn\.", r".\1_blocks.\2.attentions."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
        (r"(\.attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
        (r"(\.attentions\.\d+)\.(proj_out|proj_attn)\.", r"\1.to_out.0."),
        (r"(\.attentions\.\d+)\.(q|k|v)(uery|ey|alue)\.", r"\1.to_\2."),  # diffusers' own of 2022
    )
]
_UP = re.compile(r"^decoder\.up_blocks\.(\d+)\.")


def prefix_of(names: Iterable[str]) -> str | None:
    """Returns what stands before the autoencoder's names, None if there is no autoencoder."""
    present = set(names)
    return next((prefix for prefix in PREFIXES if prefix + _FIRST in present), None)


def renamed(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Returns diffusers' name of each weight of the autoencoder, by its name in the file."""
    own = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    own = {name: inner for name, inner in own.items() if not inner.startswith(_NOT_USED)}
    turned = {name: _renamed(inner) for name, inner in own.items()}
    stages = _count(own.values(), r"decoder\.up\.(\d+)\.")
    if not stages:
        return turned  # diffusers' names already
    # The authors count the decoder's stages from the largest image, diffusers from the smallest.
    return {name: _UP.sub(lambda found: _reversed(found, stages), new) for name, new in turned.items()}


def _renamed(name: str) -> str:
    for pattern, new in _RULES:
        name = pattern.sub(new, name)
    return name


def _reversed(found: re.Match[str], stages: int) -> str:
    return f"decoder.up_blocks.{stages - 1 - int(found[1])}."


def is_linear(name: str) -> bool:
    """Whether diffusers keeps a weight as a matrix that others keep as a 1x1 convolution."""
    return re.search(r"\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight$", name) is not None


def settings(shapes: Shapes, base: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of an autoencoder, by the shapes of its weights under diffusers' names.

    Args:
        shapes: shape of each weight; those of `is_linear` may be any.
        base: the settings of its class that no shape tells.

    Raises:
        KeyError: a weight that every autoencoder of this family has is missing.
    """
    stages = _count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    channels = [shapes[f"encoder.down_blocks.{stage}.resnets.0.conv1.weight"][0] for stage in range(stages)]
    found = {
        "in_channels": shapes[_FIRST][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": channels,
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": _kinds(shapes, "encoder.down_blocks", stages, "DownEncoderBlock2D"),
        "up_block_types": _kinds(shapes, "decoder.up_blocks", stages, "UpDecoderBlock2D"),
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
    }
    return {**base, **found, **_of_class(base["_class_name"], shapes, stages)}


def class_of(shapes: Shapes) -> str:
    """Returns the class of diffusers that has these weights."""
    if "quantize.embedding.weight" in shapes:
        return "VQModel"
    return "AutoencoderKLFlux2" if "bn.running_mean" in shapes else "AutoencoderKL"


def _of_class(name: str, shapes: Shapes, stages: int) -> dict[str, Any]:
    """Returns the settings that only this class has."""
    if name == "VQModel":
        count, width = shapes["quantize.embedding.weight"]
        return {"num_vq_embeddings": count, "vq_embed_dim": width}
    found: dict[str, Any] = {
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }
    if name == "AutoencoderKLFlux2":
        outputs = [shapes[f"decoder.up_blocks.{one}.resnets.0.conv1.weight"][0] for one in range(stages)]
        found["decoder_block_out_channels"] = outputs[::-1]
    return found


def _kinds(shapes: Shapes, part: str, stages: int, plain: str) -> list[str]:
    attends = [f"{part}.{stage}.attentions.0.to_q.weight" in shapes for stage in range(stages)]
    return [f"Attn{plain}" if one else plain for one in attends]


def _count(names: Iterable[str], pattern: str) -> int:
    """Returns one more than the largest number that `pattern` finds."""
    return max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1) + 1
