"""The files of ``train.export``: weights as safetensors, and the options of the model as JSON beside them.

`train.model.published.load` reads them.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict

import torch
from safetensors.torch import save

from pack.storage import Store
from recon.base.paths import split_path
from train.evaluation.figures.calibration import calibration_name
from train.evaluation.figures.decision import Decision
from train.model.published.load import EXPORT, WEIGHTS

ONNX = "detector.onnx"
OPTIONS = "detector.json"

_CALIBRATION = split_path(calibration_name(WEIGHTS))[1]
_LOG = logging.getLogger(__name__)


def weights_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """The weights as a safetensors file: tensors only, no code, no state of a training."""
    return save({name: value.detach().cpu().contiguous().clone() for name, value in state.items()})


def options_text(backbone: str, normalize: str, view: str, decision: Decision) -> str:
    """The JSON beside the weights."""
    options = {"backbone": backbone, "normalize": normalize}
    content = {"format": EXPORT, "model": options, "view": view, "decision": asdict(decision)}
    return json.dumps(content, indent=2) + "\n"


def replace_export(store: Store, content: Mapping[str, bytes]) -> None:
    """Publishes the files of an export in their order, in place of an earlier one, of which nothing stays.

    Args:
        store: the folder.
        content: by name; `OPTIONS` is last: if it is there, all files are.
    """
    stale, is_other = _earlier(store, content)
    if is_other:  # before the new weights are there, or a kill would leave new weights with old options
        _LOG.info("%s/%s: replaces the detector of another checkpoint", store.url, WEIGHTS)
        _remove(store, [OPTIONS, *stale])
    for name, data in content.items():
        with store.publish(name) as file:
            file.write(data)
    if not is_other:  # only now: the new options hold what this detector's own calibration says
        _remove(store, stale)


def _earlier(store: Store, content: Mapping[str, bytes]) -> tuple[list[str], bool]:
    """What an earlier export left that `content` does not replace; and whether its weights are others."""
    if not store.exists(WEIGHTS):
        return [], False
    weights = store.read(WEIGHTS)
    stale = [ONNX] if ONNX not in content and store.exists(ONNX) else []
    if store.exists(_CALIBRATION) and _belongs(store.read(_CALIBRATION), weights):
        stale.append(_CALIBRATION)
    return stale, weights != content[WEIGHTS]


def _belongs(calibration: bytes, weights: bytes) -> bool:
    """Whether a calibration is of these weights; one of a ``detector.pt`` beside them has the same name."""
    try:
        found = json.loads(calibration)
    except ValueError:
        return False
    of = found.get("checkpoint_sha256") if isinstance(found, dict) else None
    return bool(of == hashlib.sha256(weights).hexdigest())


def _remove(store: Store, names: list[str]) -> None:
    for name in names:
        store.remove(name)
        if name != OPTIONS:  # is written again
            _LOG.info("%s/%s: removed, it was of an earlier export", store.url, name)
