"""LoRA, by peft: what training adds to chosen layers of a frozen detector is a product of two thin matrices.

A layer's weight W becomes W + alpha / rank x B A (Hu et al., LoRA, ICLR 2022). Only A and B are trained, and
the detector's head. A detector is validated and saved *merged*: as the plain network with the sums for
weights, so that whoever reads it needs no peft, and best.pt scores as its validation did. A sum is rounded,
so the logits of the two forms differ in the last bits, and so would a run that continued from the sums: a
checkpoint to continue from holds W, A and B, too.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recon.base.errors import UserError
from train.model.backbones import classifier_of
from train.model.config import ModelConfig

_BASE, _FACTORS, _NAME = "base_layer.", "lora_", "default"  # peft's names
_NUMBER = re.compile(r"\b\d+\.")


def add_lora(model: nn.Module, config: ModelConfig) -> None:
    """Adds LoRA to the layers that `config.lora_targets` names; B is 0, so no logit changes yet.

    Args:
        model: a detector of `train.model.build`; changed in place.
        config: with rank, alpha and targets.

    Raises:
        UserError: peft is not installed, or a target names no layer or one that peft would change in another
            way than the merged weight says.
    """
    names = _targets(model, config.lora_targets)
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("model.train=lora needs peft; pip install -e '.[lora]'") from error
    # peft types alpha as a whole number, but only divides it by the rank.
    options: dict[str, Any] = {"r": config.lora_rank, "lora_alpha": config.lora_alpha}
    inject_adapter_in_model(LoraConfig(target_modules=names, **options), model)
    assert list(lora_layers(model)) == names, "peft has found other layers"


def lora_layers(model: nn.Module) -> dict[str, Any]:
    """The layers that peft put in place of a model's own, by their names; none without LoRA."""
    return {name: layer for name, layer in model.named_modules() if hasattr(layer, "get_delta_weight")}


def factors(model: nn.Module) -> list[nn.Parameter]:
    """The weights that LoRA has added."""
    found = [layer.named_parameters() for layer in lora_layers(model).values()]
    return [weight for named in found for name, weight in named if not name.startswith(_BASE)]


def _targets(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """The names of the layers that the targets name by their ends."""
    head = classifier_of(model)
    # Not of derived types: such a layer may do more with its weight than the merged form tells.
    known = {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) in (nn.Linear, nn.Conv2d) and name != head
    }
    for target in targets:
        found = {name: layer for name, layer in known.items() if _ends(name, target)}
        if not found:
            kinds = dict.fromkeys(_NUMBER.sub("", name).removeprefix("timm.") for name in known)
            raise UserError(
                f"model.lora_targets: {target} ends the name of no linear layer or convolution of the model "
                f"but its head; expected some of {', '.join(dict.fromkeys(_end(kind) for kind in kinds))}"
            )
        for name, layer in found.items():
            _check(name, layer)
    return [name for name in known if any(_ends(name, target) for target in targets)]


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


def _end(name: str) -> str:
    """The last two parts of a name, which tell a layer's place in a block."""
    return ".".join(name.split(".")[-2:])


def _check(name: str, layer: nn.Module) -> None:
    # peft's A is a convolution of the same kernel, stride and padding, but of nothing else of the layer.
    if isinstance(layer, nn.Conv2d) and (
        layer.groups > 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros"
    ):
        raise UserError(
            f"model.lora_targets: {name} is a convolution with groups, dilation or padding other than zeros, "
            "which peft can't merge; name other layers"
        )


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Within this context manager a model is merged; a model without LoRA is as always.

    Afterwards its weights have the same bits as before: they are kept aside, as subtracting would round.
    """
    layers = lora_layers(model).values()
    kept = [layer.base_layer.weight.data for layer in layers]
    try:
        for layer in layers:
            with torch.no_grad():
                layer.base_layer.weight.data = layer.base_layer.weight + layer.get_delta_weight(_NAME)
            layer.merged_adapters.append(_NAME)  # its forward pass leaves A and B out
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.base_layer.weight.data = weight
            layer.merged_adapters.clear()


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the merged model, with the names that it has without LoRA."""
    layers = lora_layers(model)
    with merged(model):
        state = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        layer = next((one for one in _owners(name) if one in layers), None)
        if layer is None:
            found[name] = value
        elif name.startswith(f"{layer}.{_BASE}"):
            found[f"{layer}.{name.removeprefix(f'{layer}.{_BASE}')}"] = value
        else:
            assert name.startswith(f"{layer}.{_FACTORS}"), name
    return found


def _owners(name: str) -> Iterator[str]:
    """The modules that hold a weight, innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name
