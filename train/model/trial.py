"""A first look at a model, before any data is read: what it does not take, and what it would not train."""

from collections.abc import Iterable

import torch
from torch import nn

from recon.base.errors import UserError
from train.model.lora import lora_layers
from train.model.normalize import normalize
from train.model.weights import one_line


@torch.no_grad()
def try_out(model: nn.Module, normalization: str, sides: Iterable[int]) -> None:
    """Sends black squares through a model.

    Args:
        model: a detector; it is in training mode afterwards.
        normalization: of its input, see `train.model.normalize.normalize`.
        sides: of the squares in pixels.

    Raises:
        UserError: the model fails on one of the sides, or never calls a layer that LoRA was added to. Some
            models of timm (BEiT, EVA, DINOv3's of ``qkvb``, Swin v2) take the weight out of ``qkv`` instead,
            and LoRA's part would stay without effect or gradient.
    """
    layers = lora_layers(model)
    called: set[str] = set()
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.add(name)) for name, layer in layers.items()
    ]
    model.eval()
    for side in sides:
        _send(model, normalization, side)
        if left := [name for name in layers if name not in called]:
            raise UserError(
                f"model.lora_targets: LoRA would have no effect on {left[0]}, one of {len(left)} layers "
                "whose weights the model uses without calling them; name other layers or another backbone"
            )
    model.train()
    for hook in hooks:
        hook.remove()


def _send(model: nn.Module, normalization: str, side: int) -> None:
    try:
        model(normalize(torch.zeros(1, 3, side, side, dtype=torch.uint8), normalization))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"the model can't take crops of {side}x{side} pixels: {one_line(error)}; choose another "
            "augment.crop and data.val_crop, or for a transformer --model.backbone timm:NAME@SIDE"
        ) from error
