"""The detectors: an image in, one logit out, above 0 for a fake.

The backbones keep the full resolution where the trace lives. ``res50nodown`` and
``res18nodown`` are torchvision's ResNets without the stem's down-sampling, under torchvision's
own state-dict names, so that published detectors and ImageNet weights load; ``highpass`` is a
small network on fixed high-pass residuals, for CPUs; ``timm:NAME`` is any model of timm.

Shapes: B images, C channels, H rows, W columns.
"""

import difflib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import UserError
from train.config import ModelConfig
from train.normalize import Normalization, find_normalization

DROPOUT = 0.5
"""Before the ResNets' classifier."""
HIGHPASS_DROPOUT = 0.3
"""Between the layers of ``highpass``."""
TIMM = "timm:"
"""Prefix of a backbone that timm builds; its state-dict names begin with ``timm.``."""
IMAGENET_CLASSES = 1000
"""Rows of a classifier that is dropped from weights."""

State = Mapping[str, Tensor]


def build_model(config: ModelConfig) -> nn.Module:
    """Builds a detector and loads the weights that the config names.

    Args:
        config: the backbone, and where its first weights come from.

    Returns:
        A module from `train.normalize.normalize`'d images (B, C, H, W) float32 to logits (B,),
        above 0 for a fake. H and W are free, except where a timm model fixes them; C is what
        `config.normalize` gives.

    Raises:
        UserError: the backbone or the normalisation is unknown, they don't fit together, timm or the
            weights are missing, or the weights belong to another model.
    """
    normalization = find_normalization(config.normalize)
    if config.backbone.startswith(TIMM):
        name, pretrained = config.backbone.removeprefix(TIMM), config.weights == "imagenet"
        model = _timm_model(name, normalization.channels, pretrained=pretrained)
    elif config.backbone in BACKBONES:
        model = BACKBONES[config.backbone](normalization)
        if config.weights == "imagenet":
            _load_imagenet(model, config)
    else:
        choices = ", ".join([*BACKBONES, f"{TIMM}NAME"])
        raise UserError(f"unknown backbone {config.backbone!r}, expected one of {choices}")
    if config.weights not in (None, "imagenet"):
        _load_file(model, str(config.weights), config.backbone)
    return model


def model_from_checkpoint(checkpoint: Mapping[str, Any]) -> nn.Module:
    """Rebuilds the detector of a training checkpoint.

    Args:
        checkpoint: a dict with ``config`` (its ``model.backbone`` names the architecture, its
            ``model.normalize`` what it sees) and ``model`` (the state dict).

    Raises:
        UserError: the parts are missing, or the weights are not those of the backbone.
    """
    try:
        backbone, state = checkpoint["config"]["model"]["backbone"], checkpoint["model"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"not a checkpoint of a training run: expected config.model.backbone and model, found no {error}"
        ) from error
    model = build_model(ModelConfig(backbone=backbone, normalize=normalization_of(checkpoint)))
    _load(model, state, f"checkpoint of another model than its backbone {backbone}")
    return model


def normalization_of(checkpoint: Mapping[str, Any]) -> str:
    """The name of the normalisation that the detector of a checkpoint was trained with."""
    return str(checkpoint["config"]["model"].get("normalize", "resnet"))


class HighPass(nn.Module):
    """Third-order differences along rows and columns, squashed to a few grey levels.

    A decoder leaves its trace in the finest detail; content and brightness are mostly gone from
    these differences, and edges, far stronger than the trace, saturate. As the residuals of
    Cozzolino et al. 2014 and the ``residue3`` front end of grip-unina's detectors, the
    quantiser there being the tanh here.

    Args:
        std: what `train.normalize.normalize` divided by, on the scale 0..1.
    """

    CHANNELS = 6
    """Two residuals of each colour channel."""
    SCALE = 4.0
    """Grey levels at which the tanh bends."""

    def __init__(self, std: tuple[float, ...]) -> None:
        """Lays out the fixed filters; there is nothing to learn here and nothing to save."""
        super().__init__()
        taps = torch.tensor([1.0, -3.0, 3.0, -1.0]) / 3.0
        levels = 255.0 * torch.tensor(std).view(3, 1, 1, 1)  # undoes `normalize`: residuals in grey levels
        self.register_buffer("rows", levels * taps.view(1, 1, 1, 4) / self.SCALE, persistent=False)
        self.register_buffer("columns", levels * taps.view(1, 1, 4, 1) / self.SCALE, persistent=False)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Maps normalised images (B, 3, H, W) to residuals (B, 6, H, W) in -1..1."""
        rows, columns = self.get_buffer("rows"), self.get_buffer("columns")
        with torch.autocast(x_B3HW.device.type, enabled=False):  # bfloat16 would round the residual away
            across = F.conv2d(F.pad(x_B3HW, (1, 2, 0, 0), mode="replicate"), rows, groups=3)
            down = F.conv2d(F.pad(x_B3HW, (0, 0, 1, 2), mode="replicate"), columns, groups=3)
            return torch.tanh(torch.cat([across, down], dim=1))


def _highpass(normalization: Normalization) -> nn.Module:
    """17,217 parameters on `HighPass` residuals; any H, W >= 1.

    Small, and with dropout between its layers, because it learns from few photographs. Trained
    with ``taesd`` on 30 tiles of six photographs for 40 to 100 s of one core it ranked tiles of
    three other sources at AUC .86 to .93; without the dropout .86 to .88, four times as wide .86
    to .88, with residuals divided by their local strength .73 to .89. Single runs differ by .03.
    """
    if normalization.std is None:
        raise UserError("highpass takes pixels, expected model.normalize resnet, clip or xception")
    width = 16
    return nn.Sequential(
        OrderedDict(
            residual=HighPass(normalization.std),
            block1=_conv_block(HighPass.CHANNELS, width, stride=1),  # full resolution, as the trace
            block2=_conv_block(width, width, stride=2),
            block3=_conv_block(width, 2 * width, stride=2),
            channels=nn.Dropout2d(HIGHPASS_DROPOUT),
            block4=_conv_block(2 * width, 2 * width, stride=2),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(HIGHPASS_DROPOUT),
            fc=nn.Linear(2 * width, 1),
            logit=nn.Flatten(0),  # (B, 1) -> (B,)
        )
    )


def _conv_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _nodown(blocks: str, layers: list[int], channels: int) -> nn.Module:
    """A ResNet whose stem keeps the resolution, under torchvision's state-dict names.

    The architecture ``res50nodown`` of Gragnaniello et al. (ICME 2021) and Corvi et al.
    (ICASSP 2023), `resnet_mod.py` with ``stride0=1, dropout=0.5``.
    """
    from torchvision.models import resnet

    trunk = resnet.ResNet(getattr(resnet, blocks), layers, num_classes=1)
    if channels != trunk.conv1.in_channels:
        trunk.conv1 = nn.Conv2d(channels, trunk.conv1.out_channels, 7, padding=3, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
    trunk.conv1.stride = (1, 1)
    trunk.maxpool.stride = 1
    parts: OrderedDict[str, nn.Module] = OrderedDict(trunk.named_children())
    fc = parts.pop("fc")
    parts.update(flatten=nn.Flatten(), dropout=nn.Dropout(DROPOUT), fc=fc, logit=nn.Flatten(0))
    return nn.Sequential(parts)


def _res50nodown(normalization: Normalization) -> nn.Module:
    return _nodown("Bottleneck", [3, 4, 6, 3], normalization.channels)


def _res18nodown(normalization: Normalization) -> nn.Module:
    return _nodown("BasicBlock", [2, 2, 2, 2], normalization.channels)


BACKBONES: dict[str, Callable[[Normalization], nn.Module]] = {
    "res50nodown": _res50nodown,
    "res18nodown": _res18nodown,
    "highpass": _highpass,
}
"""The backbones by name; `timm:NAME` is beside them."""

_IMAGENET = {"res50nodown": "ResNet50_Weights", "res18nodown": "ResNet18_Weights"}


def _timm_model(name: str, channels: int, *, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbone {TIMM}{name} needs timm; pip install pairstream[timm]") from error
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 5, cutoff=0.5)
        raise UserError(f"timm {timm.__version__} has no model {name!r}; close: {', '.join(close) or 'none'}")
    try:
        takes: dict[str, Any] = (
            {} if channels == 3 else {"in_chans": channels}
        )  # not every model of timm knows the argument
        model = timm.create_model(name, pretrained=pretrained, num_classes=1, **takes)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"timm can't create {name!r}: {_one_line(error)}") from error
    return nn.Sequential(OrderedDict(timm=model, logit=nn.Flatten(0)))


def _load_imagenet(model: nn.Module, config: ModelConfig) -> None:
    """Loads torchvision's IMAGENET1K_V1, with which the published detectors began."""
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
            f"ImageNet weights can't be fetched from {weights.url}: {_one_line(error)}; "
            "fetch the file by hand and pass model.weights=FILE"
        ) from error
    _load(model, _adopted(model, state), f"ImageNet weights do not fit {backbone}")


def _load_file(model: nn.Module, path: str, backbone: str) -> None:
    """Loads a file of weights; torch.save of a state dict, bare or under model or state_dict."""
    if not Path(path).is_file():
        raise UserError(f"model.weights={path}: no such file, expected a file of weights or imagenet")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} holds no plain weights ({type(error).__name__}), expected a state dict of tensors "
            "written by torch.save"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    _load(model, _adopted(model, content), f"{path} does not fit {backbone}")


def _load(model: nn.Module, state: object, complaint: str) -> None:
    """Loads a state dict whole, or says in one line what was expected and what was found."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{complaint}: expected a dict of tensors by name, found {_kind(state)}")
    problems = _differences(model.state_dict(), state)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{complaint}: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(state)


def _adopted(model: nn.Module, state: object) -> object:
    """Strangers' weights under the model's names, its own values where they have none to give.

    That is an ImageNet classifier in place of the single logit, and BatchNorm's step counters,
    which old files lack. DDP's prefix ``module.`` is taken off.
    """
    if not isinstance(state, Mapping):
        return state
    own = model.state_dict()
    adopted = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    for name, value in state.items():
        name = str(name).removeprefix("module.")
        name = name if name in own else f"timm.{name}" if f"timm.{name}" in own else name
        adopted[name] = own[name] if name in own and _is_imagenet_head(value, own[name]) else value
    return adopted


def _is_imagenet_head(value: object, own: Tensor) -> bool:
    """Whether `value` is the 1000-row form of the model's one-row classifier."""
    if not isinstance(value, Tensor) or not own.ndim:
        return False
    return own.shape[0] == 1 and value.shape == (IMAGENET_CLASSES, *own.shape[1:])


def _differences(own: State, found: State) -> list[str]:
    shapes = [
        f"expected {name} {tuple(own[name].shape)}, found {tuple(value.shape)}"
        for name, value in found.items()
        if name in own and own[name].shape != value.shape
    ]
    missing = [f"expected {name} {tuple(own[name].shape)}, found none" for name in own if name not in found]
    unknown = [f"found {name} {tuple(found[name].shape)}, expected none" for name in found if name not in own]
    return shapes + missing + unknown


def _kind(state: object) -> str:
    return "other values in it" if isinstance(state, Mapping) else type(state).__name__


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
