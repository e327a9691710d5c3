"""The first weights of a run: a detector's of any kind that is read here, or a backbone's without a head."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pack.storage import Store, open_store
from recon.base.errors import UserError
from recon.base.paths import split_path
from train.model.backbones import classifier_of
from train.model.build import build_model
from train.model.config import ModelConfig
from train.model.published.load import detector_file
from train.model.published.lora import has_lora
from train.model.published.names import head_of, one_output, rows_of, without_prefixes
from train.model.published.stated import read_stated
from train.model.published.tensors import read_tensors
from train.model.published.transformers_names import is_of_transformers, timm_tensors
from train.model.weights import load_state, one_line, owned, with_own_head

_LOG = logging.getLogger(__name__)


def first_model(config: ModelConfig) -> nn.Module:
    """The detector of a run with its first weights.

    Args:
        config: its ``weights`` are None, ``imagenet``, or the path or URL of a file or a folder.

    Raises:
        UserError: see `train.model.build.build_model`; or the file is not there, or holds other tensors than
            the backbone's. Only the head may be another: then the model keeps its own, and a line says so.
    """
    if config.weights in (None, "imagenet"):
        return build_model(config)
    path = detector_file(str(config.weights))
    folder, name = split_path(path)
    store = open_store(folder)
    if not store.exists(name):
        raise UserError(
            f"model.weights={path}: no such file; expected imagenet, a file of weights, or a folder with one"
        )
    content = read_tensors(store.read(name), path)
    model = build_model(replace(config, weights=None))
    state = _checkpoint(content, path) if "format" in content else content
    load_state(model, _adopted(state, model, store, path), f"{path} does not fit {config.backbone}")
    return model


def _checkpoint(content: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    if not isinstance(content.get("model"), Mapping):
        raise UserError(f"{path} is a checkpoint without a model; take another")
    return dict(content["model"])


def _adopted(state: Mapping[str, Tensor], model: nn.Module, store: Store, path: str) -> dict[str, Tensor]:
    """The tensors with the names and the head of this model."""
    if has_lora(state):
        raise UserError(
            f"{path} holds LoRA's factors; make plain weights of it with train.export --checkpoint {path} "
            "--model.lora_alpha ALPHA --out FOLDER, and take that folder"
        )
    state = without_prefixes(state)
    timm = dict(model.named_children()).get("timm")
    if timm is not None:
        state = {name.removeprefix("timm."): value for name, value in state.items()}
        if is_of_transformers(state):
            state = timm_tensors(state, timm.state_dict(), path)
        state = _filtered(state, timm, path)
    found = owned(state, model)
    try:
        name = classifier_of(model)
    except UserError:  # it ends in more than one layer, and the file has to have them all
        return found
    if rows_of(found, model) == 2 and (head := _stated_head(store, path)):
        return one_output(found, model, head, path)
    return with_own_head(found, model, name, path)


def _stated_head(store: Store, path: str) -> str | None:
    """What two outputs stand for, where a config beside the file names a real and a fake one."""
    try:
        outputs = read_stated(store, split_path(path)[1]).outputs
        return head_of(outputs, 2, path) if outputs else None
    except UserError:  # the config of no detector, but of a backbone
        return None


def _filtered(state: Mapping[str, Tensor], timm: nn.Module, path: str) -> dict[str, Tensor]:
    """What timm itself makes of tensors with their authors' names, and of positions of another grid.

    Source: ``checkpoint_filter_fn`` of the file of timm that has the model; some have none.
    """
    convert = getattr(sys.modules[type(timm).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(state)
    try:
        found: dict[str, Tensor] = convert(dict(state), timm)
    except Exception as error:  # whatever a function raises that is made for other files
        raise UserError(
            f"{path}: timm can't read it as its {type(timm).__name__}: {one_line(error)}"
        ) from error
    for name, what in (("pos_embed", "position embeddings"), ("patch_embed.proj.weight", "patch embedding")):
        before, after = state.get(name), found.get(name)
        if before is not None and after is not None and before.shape != after.shape:
            _LOG.info("%s: %s resampled from %s to %s", path, what, tuple(before.shape), tuple(after.shape))
    return found
