"""The files of ``train.export``: weights as safetensors, and the options of the model as JSON beside them.

`train.model.published.load` reads them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import save

from train.evaluation.figures.decision import Decision
from train.model.published.load import EXPORT

OPTIONS = "detector.json"


def weights_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """The weights as a safetensors file: tensors only, no code, no state of a training."""
    return save({name: value.detach().cpu().contiguous().clone() for name, value in state.items()})


def options_text(model: Mapping[str, Any], view: str, decision: Decision) -> str:
    """The JSON beside the weights."""
    options = {"backbone": model["backbone"], "normalize": model.get("normalize", "resnet")}
    content = {"format": EXPORT, "model": options, "view": view, "decision": asdict(decision)}
    return json.dumps(content, indent=2) + "\n"
