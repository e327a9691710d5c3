"""Builds the detectors: they map an image to one logit, above 0 for a fake.

The first layers keep the full resolution, because the trace of a decoder is in the finest detail.
``res50nodown`` and ``res18nodown`` are torchvision's ResNets without the down-sampling of the stem. They
keep torchvision's state-dict names, so that published detectors and ImageNet weights can be loaded.
``highpass`` is a small network on fixed high-pass residuals, for CPUs; ``timm:NAME`` is any timm model.

Shapes: B images, C channels, H rows, W columns.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from recon.base.errors import UserError
from train.model.backbones import BACKBONES, TIMM, own_normalization, timm_model
from train.model.config import ModelConfig
from train.model.normalize import find_normalization
from train.model.weights import load_imagenet, load_state


def build_model(config: ModelConfig) -> nn.Module:
    """Builds a detector, with ImageNet's weights if the config says so.

    Args:
        config: the backbone; a file of weights is for `train.model.published.first.first_model`.

    Returns:
        A module that maps images (B, C, H, W) float32, the output of `train.model.normalize.normalize`, to
        logits (B,), above 0 for a fake. H and W are free, unless a timm model fixes them; `config.normalize`
        determines C.

    Raises:
        UserError: the backbone or the normalisation is unknown, they don't fit together, timm or the
            weights are missing, or the weights belong to another model.
    """
    normalization = find_normalization(config.normalize)
    if config.backbone.startswith(TIMM):
        name, pretrained = config.backbone.removeprefix(TIMM), config.weights == "imagenet"
        model = timm_model(name, normalization.channels, pretrained=pretrained, dropout=config.dropout)
    elif config.backbone in BACKBONES:
        model = BACKBONES[config.backbone](normalization)
        if config.dropout is not None:
            last: Any = model.get_submodule("dropout")
            last.p = config.dropout
        if config.weights == "imagenet":
            load_imagenet(model, config)
    else:
        choices = ", ".join([*BACKBONES, f"{TIMM}NAME"])
        raise UserError(f"unknown backbone {config.backbone!r}, expected one of {choices}")
    return model


def with_own_normalization(config: ModelConfig) -> ModelConfig:
    """The config with ``auto`` replaced by the normalisation that it stands for.

    Raises:
        UserError: see `train.model.backbones.own_normalization`.
    """
    if config.normalize != "auto":
        return config
    return replace(config, normalize=own_normalization(config.backbone))


def model_from_checkpoint(
    checkpoint: Mapping[str, Any], where: str = "this", made: nn.Module | None = None
) -> nn.Module:
    """Rebuilds the detector of a training checkpoint.

    Args:
        checkpoint: a dict with ``config`` (``model.backbone`` in it names the architecture, and
            ``model.normalize`` the normalisation of its input) and ``model`` (the state dict).
        where: its path or URL, for messages.
        made: the model of this config, if there is one already; its weights are replaced.

    Raises:
        UserError: one of them is missing, or the weights do not fit the backbone.
    """
    try:
        backbone, state = checkpoint["config"]["model"]["backbone"], checkpoint["model"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where} is not a checkpoint of a training run: expected config.model.backbone and model, found "
            f"no {error}"
        ) from error
    model = made or build_model(ModelConfig(backbone=backbone, normalize=normalization_of(checkpoint)))
    load_state(model, state, f"{where} is a checkpoint of another model than its backbone {backbone}")
    return model


def normalization_of(checkpoint: Mapping[str, Any]) -> str:
    """The name of the normalisation that the detector of a checkpoint was trained with."""
    return str(checkpoint["config"]["model"].get("normalize", "resnet"))
