"""What a config beside a published file of weights states: network, normalisation, outputs, view.

The forms are those of ``config.yaml`` of AlignedForensics and of grip-unina's
ClipBased-SyntheticImageDetection (``main.py``, ``networks/__init__.py``), and of ``config.json`` as timm,
Community Forensics (``models.py``, ``dataloader.py``) and transformers write it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

import yaml

from pack.storage import Store
from recon.base.errors import UserError
from train.model.backbones import TIMM
from train.model.normalize import find_normalization, normalization_name
from train.model.published.transformers_vit import resize_step, vit_backbone, vit_outputs, vit_view

YAML, JSON, PROCESSOR = "config.yaml", "config.json", "preprocessor_config.json"
BY_HAND = "give --model.backbone and --model.normalize"

_ARCHES = {"res50nodown": "res50nodown", "res50stride1": "res50nodown"}
"""Backbones by ``arch``. ``res50stride1`` averages a map of logits, which is the logit of the average."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What is stated of a detector; None where nothing is."""

    backbone: str | None = None
    normalize: str | None = None
    view: str = "whole"
    """How its authors look at an image, a name of ``--view``."""
    outputs: tuple[str, ...] = ()
    """Names of its outputs, in their order."""
    pooling: str | None = None
    """What timm calls ``global_pool``."""


def read_stated(store: Store, name: str) -> Stated:
    """What the config beside a file of weights states.

    Args:
        store: the folder of both.
        name: of the file of weights; a ``config.yaml`` that names another one does not count.

    Raises:
        UserError: the config is damaged, or of a detector that can't be read.
    """
    if store.exists(YAML):
        where = f"{store.url}/{YAML}"
        found = read_mapping(store.read(YAML), yaml.safe_load, where)
        if str(found.get("weights_file", name)).rsplit("/", 1)[-1] == name:
            return _of_yaml(found, where)
    if store.exists(JSON):
        where = f"{store.url}/{JSON}"
        return _of_json(read_mapping(store.read(JSON), json.loads, where), store, where)
    return Stated()


def read_mapping(data: bytes, parse: Callable[[bytes], Any], where: str) -> dict[str, Any]:
    """The content of a YAML or JSON file; UserError: it holds no options by name."""
    try:
        found = parse(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{where} can't be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise UserError(f"{where} holds a {type(found).__name__}, expected options by name")
    return found


def _of_yaml(found: Mapping[str, Any], where: str) -> Stated:
    arch, normalize, patch = (found.get(key) for key in ("arch", "norm_type", "patch_size"))
    if arch not in _ARCHES:
        why = "; its file holds the last layer alone" if str(arch).startswith("openclip") else ""
        raise UserError(f"{where}: arch {arch!r}{why}, expected one of {', '.join(_ARCHES)}; or {BY_HAND}")
    find_normalization(str(normalize))
    if patch is None:
        view = "whole"
    elif patch == "Clip224":
        view = "resize:224:bicubic+crop:224"
    elif isinstance(patch, int) and patch > 0:
        view = f"crop:{patch}"
    elif isinstance(patch, list) and len(patch) == 1 and isinstance(patch[0], int):
        view = f"resize:{patch[0]}+crop:{patch[0]}"
    else:
        raise UserError(f"{where}: patch_size {patch!r}, expected null, a number, [a number] or Clip224")
    return Stated(backbone=_ARCHES[arch], normalize=str(normalize), view=view)


def _of_json(found: Mapping[str, Any], store: Store, where: str) -> Stated:
    try:
        if "architecture" in found:
            return _of_timm(found, where)
        if {"input_size", "patch_size", "model_size"} <= set(found):
            return _of_community_forensics(found)
        if found.get("model_type") == "vit":
            return _of_transformers(found, store, where)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{where} has another form than it seems to have: {error!r}; {BY_HAND}") from error
    raise UserError(
        f"{where} has neither timm's architecture, nor Community Forensics' input_size, patch_size and "
        f"model_size, nor transformers' model_type vit; {BY_HAND}"
    )


def _of_timm(found: Mapping[str, Any], where: str) -> Stated:
    """A model that `timm.models.save_for_hf` wrote; older files have no ``pretrained_cfg``."""
    facts = found.get("pretrained_cfg", found)
    arguments = {"global_pool": found.get("global_pool"), **(found.get("model_args") or {})}
    side, pooling = arguments.pop("img_size", None), arguments.pop("global_pool")
    arguments.pop("num_classes", None)  # the weights tell
    if arguments.pop("in_chans", 3) != 3 or arguments:
        shown = ", ".join(arguments) or "in_chans"
        raise UserError(f"{where}: model_args {shown} of timm can't be stated here; {BY_HAND}")
    _, height, width = facts["input_size"]
    sides = (side, side) if isinstance(side, int) else tuple(side or (height, width))
    if sides[0] != sides[1]:
        raise UserError(f"{where}: inputs of {sides[1]}x{sides[0]} pixels, expected squares; {BY_HAND}")
    return Stated(
        backbone=f"{TIMM}{found['architecture']}{f'@{sides[0]}' if side else ''}",
        normalize=normalization_name(facts["mean"], facts["std"]),
        view=_timm_view(facts, sides[0], where),
        outputs=tuple(found.get("label_names") or facts.get("label_names") or ()),
        pooling=pooling,
    )


def _timm_view(facts: Mapping[str, Any], side: int, where: str) -> str:
    """The test transform of `timm.data.create_transform` for these facts."""
    mode, scaled = facts.get("crop_mode", "center"), floor(side / float(facts.get("crop_pct") or 0.875))
    if mode not in ("center", "squash"):
        raise UserError(f"{where}: crop_mode {mode!r}, expected center or squash; {BY_HAND}")
    size = f"{scaled}x{scaled}" if mode == "squash" else f"{scaled}"
    return f"{resize_step(size, facts.get('interpolation', 'bilinear'))}+crop:{side}"


def _of_transformers(found: Mapping[str, Any], store: Store, where: str) -> Stated:
    """A ViT that ``save_pretrained`` wrote; its normalisation and view are in the file of its processor."""
    backbone, normalize = vit_backbone(found, where), None
    processor: dict[str, Any] = {}
    if store.exists(PROCESSOR):
        processor = read_mapping(store.read(PROCESSOR), json.loads, f"{store.url}/{PROCESSOR}")
        normalize = normalization_name(processor["image_mean"], processor["image_std"])
    view = vit_view(processor, int(found["image_size"]))
    return Stated(backbone=backbone, normalize=normalize, view=view, outputs=vit_outputs(found))


def _of_community_forensics(found: Mapping[str, Any]) -> Stated:
    side = int(found["input_size"])
    scaled = {224: 256, 384: 440}.get(side)
    return Stated(
        backbone=f"{TIMM}vit_{found['model_size']}_patch{found['patch_size']}_{side}",
        normalize="resnet",
        view=f"crop:{side}" if scaled is None else f"resize:{scaled}+crop:{side}",
    )
