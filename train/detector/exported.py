"""The files of ``train.export``: weights as safetensors, and the options of the model as JSON beside them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pack.storage import open_store
from recon.base.errors import UserError
from recon.base.paths import split_path
from train.evaluation.figures.decision import Decision

FORMAT = "pairstream-detector/1"
EXPORT_SUFFIX = ".safetensors"
WEIGHTS, OPTIONS = "detector.safetensors", "detector.json"


def weights_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """The weights as a safetensors file: tensors only, no code, no state of a training."""
    return save({name: value.detach().cpu().contiguous().clone() for name, value in state.items()})


def options_text(model: Mapping[str, Any], decision: Decision) -> str:
    """The JSON beside the weights."""
    options = {"backbone": model["backbone"], "normalize": model.get("normalize", "resnet")}
    return json.dumps({"format": FORMAT, "model": options, "decision": asdict(decision)}, indent=2) + "\n"


def read_export(path: str) -> tuple[dict[str, Any], Decision]:
    """Reads exported weights and the JSON of the same name beside them.

    Returns:
        ``config`` and ``model`` as in a checkpoint, and the decision.

    Raises:
        UserError: one of the two files is missing, damaged or of another format.
    """
    folder, name = split_path(path)
    store, options = open_store(folder), f"{name.removesuffix(EXPORT_SUFFIX)}.json"
    for file in (name, options):
        if not store.exists(file):
            raise UserError(f"{folder}/{file} not found; an export has {WEIGHTS} and {OPTIONS} side by side")
    try:
        content = json.loads(store.read(options))
        assert content["format"] == FORMAT, content["format"]
        model = {
            "backbone": str(content["model"]["backbone"]),
            "normalize": str(content["model"]["normalize"]),
        }
        decision = Decision(**content["decision"])
        assert decision.temperature > 0, decision.temperature
        assert math.isfinite(decision.threshold), decision.threshold
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"{folder}/{options} is not an export's JSON of format {FORMAT!r} ({error}); export again"
        ) from error
    try:
        state = load(store.read(name))
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}; export again") from error
    return {"config": {"model": model}, "model": state}, decision
