"""Loads weights into a model; if they do not fit, the error names the differences."""

import logging
from collections.abc import Mapping

from torch import Tensor, nn

from recon.base.errors import UserError
from train.model.config import ModelConfig
from train.model.normalize import find_normalization

State = Mapping[str, Tensor]

_LOG = logging.getLogger(__name__)
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
    adopted = with_own_head(owned(state, model), model, "fc", "ImageNet's file")
    load_state(model, adopted, f"ImageNet weights do not fit {backbone}")


def load_state(model: nn.Module, state: object, complaint: str) -> None:
    """Loads a whole state dict; raises a UserError in one line if names or shapes differ."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{complaint}: expected a dict of tensors by name, found {_kind(state)}")
    if problems := _differences(model.state_dict(), state):
        raise UserError(f"{complaint}: {problems}")
    model.load_state_dict(state)


def owned(state: State, model: nn.Module) -> dict[str, Tensor]:
    """Gives tensors the names of a fresh model: timm's models are its ``timm``.

    Step counters of BatchNorm, which old files lack and no score depends on, stay the model's: 0.
    """
    own = model.state_dict()
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    return counters | {f"timm.{name}" if f"timm.{name}" in own else name: state[name] for name in state}


def with_own_head(state: State, model: nn.Module, head: str, where: str) -> dict[str, Tensor]:
    """Takes the model's own head where the tensors have none, or one of other outputs than a single one.

    Args:
        state: with the names of the model.
        model: with one output.
        head: the name of its last layer.
        where: the file, for the line that says so.
    """
    own = {name: value for name, value in model.state_dict().items() if name.rpartition(".")[0] == head}
    found = {name: state[name] for name in own if name in state}
    rows = {len(value) if value.ndim else 0 for value in found.values()}
    # Of other columns, it is the head of another network, which loading will tell.
    alike = all(value.shape[1:] == own[name].shape[1:] for name, value in found.items())
    if alike and len(rows) == 1 and rows != {1}:
        theirs = f"a head of {rows.pop()} outputs"
    elif not found:
        theirs = "no head"
    else:
        return dict(state)
    _LOG.info("%s holds %s; the detector's begins afresh", where, theirs)
    return dict(state) | own


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
