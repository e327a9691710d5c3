"""Loads weights from files and hubs into a model; if they do not fit, the error names the differences."""

import pickle
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recon.base.errors import UserError
from recon.base.paths import is_file
from train.model.config import ModelConfig
from train.model.normalize import find_normalization

IMAGENET_CLASSES = 1000
"""Rows of an ImageNet classifier, which is left out when weights are loaded."""

State = Mapping[str, Tensor]

_IMAGENET = {"res50nodown": "ResNet50_Weights", "res18nodown": "ResNet18_Weights"}


def load_imagenet(model: nn.Module, config: ModelConfig) -> None:
    """Loads torchvision's IMAGENET1K_V1, the first weights of the published detectors."""
    import torchvision

    backbone, channels = config.backbone, find_normalization(config.normalize).channels
    if channels != 3:
        raise UserError(
            f"model.weights=imagenet takes 3 channels, model.normalize={config.normalize} gives {channels}; "
            "leave the weights out"
        )
    if backbone not in _IMAGENET:
        raise UserError(f"{backbone} has no ImageNet weights, expected one of {', '.join(_IMAGENET)}")
    weights = getattr(torchvision.models, _IMAGENET[backbone]).IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"ImageNet weights can't be fetched from {weights.url}: {one_line(error)}; "
            "fetch the file by hand and pass model.weights=FILE"
        ) from error
    load_state(model, _adopted(model, state), f"ImageNet weights do not fit {backbone}")


def load_file(model: nn.Module, path: str, backbone: str) -> None:
    """Loads a file of weights: torch.save of a state dict, or of a dict with it as model or state_dict."""
    if not is_file(path):
        raise UserError(f"model.weights={path}: no such file, expected a file of weights or imagenet")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} holds no plain weights ({type(error).__name__}), expected a state dict of tensors "
            "written by torch.save"
        ) from error
    # Our own checkpoints have the state dict as "model", many other projects as "state_dict".
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    load_state(model, _adopted(model, content), f"{path} does not fit {backbone}")


def load_state(model: nn.Module, state: object, complaint: str) -> None:
    """Loads a whole state dict; raises a UserError in one line if names or shapes differ."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{complaint}: expected a dict of tensors by name, found {_kind(state)}")
    if problems := _differences(model.state_dict(), state):
        raise UserError(f"{complaint}: {problems}")
    model.load_state_dict(state)


def _adopted(model: nn.Module, state: object) -> object:
    """Weights of another project with the names of this model.

    The model keeps its own classifier if the weights have one for ImageNet, and its own BatchNorm step
    counters if the weights have none, as in old files. DDP's prefix ``module.`` is removed.
    """
    if not isinstance(state, Mapping):
        return state
    own = model.state_dict()
    adopted = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    for name, value in state.items():
        name = str(name).removeprefix("module.")
        name = name if name in own else f"timm.{name}" if f"timm.{name}" in own else name
        # An ImageNet classifier can't be used for one logit, so the model keeps its own first weights.
        adopted[name] = own[name] if name in own and _is_imagenet_head(value, own[name]) else value
    return adopted


def _is_imagenet_head(value: object, own: Tensor) -> bool:
    """Whether `value` is a classifier of 1000 rows and `own` is one of a single row."""
    if not isinstance(value, Tensor) or not own.ndim:
        return False
    return own.shape[0] == 1 and value.shape == (IMAGENET_CLASSES, *own.shape[1:])


def _differences(own: State, found: State) -> str:
    """The tensors of other shape, missing and unexpected: the first of each kind, and how many more."""
    shapes = [
        f"expected {name} {tuple(own[name].shape)}, found {tuple(value.shape)}"
        for name, value in found.items()
        if name in own and own[name].shape != value.shape
    ]
    missing = [f"expected {name} {tuple(own[name].shape)}, found none" for name in own if name not in found]
    unknown = [f"found {name} {tuple(found[name].shape)}, expected none" for name in found if name not in own]
    kinds = {"of other shape": shapes, "missing": missing, "unexpected": unknown}
    return "; ".join(_first(problems, kind) for kind, problems in kinds.items() if problems)


def _first(problems: list[str], kind: str) -> str:
    """Three are enough to see what differs, and keep the message in one line."""
    more = f" and {len(problems) - 3} more {kind}" if len(problems) > 3 else ""
    return f"{'; '.join(problems[:3])}{more}"


def _kind(state: object) -> str:
    return "other values in it" if isinstance(state, Mapping) else type(state).__name__


def one_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its type if it has no message."""
    return str(error).strip().split("\n")[0] or type(error).__name__
