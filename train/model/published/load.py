"""Opens a detector's file: a checkpoint of ours, an export of ours, or weights that others published."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml
from torch import Tensor, nn

from pack.storage import Store, open_store
from recon.base.errors import UserError
from recon.base.paths import expanded, is_dir, split_path
from train.model.backbones import pooling_of
from train.model.build import build_model, model_from_checkpoint
from train.model.checkpoint import stored
from train.model.config import FileModel, ModelConfig
from train.model.published.lora import SIDE, backbone_of, has_lora, merged
from train.model.published.names import head_of, one_output, rows_of, without_prefixes
from train.model.published.stated import BY_HAND, YAML, Stated, read_mapping, read_stated
from train.model.published.tensors import SAFETENSORS, read_tensors
from train.model.published.transformers_names import is_of_transformers, timm_tensors
from train.model.weights import owned

EXPORT = "pairstream-detector/1"
"""Format of the JSON that train.export writes beside its weights."""
WEIGHTS = f"detector{SAFETENSORS}"
"""Name of the weights that train.export writes."""

_FILES = (WEIGHTS, f"model{SAFETENSORS}", "pytorch_model.bin", "weights.pth", "best.pt")
_NOTHING_GIVEN = FileModel()
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DetectorFile:
    """A detector as its file has it."""

    path: str
    """Path or URL of the file."""
    sha256: str
    """Of its bytes, in hexadecimal; where something was given that it does not say, of that too."""
    content: Mapping[str, Any]
    """``config`` and ``model`` as in a checkpoint; of a checkpoint all that it holds."""
    view: str = "whole"
    """How its authors look at an image, a name of ``--view``."""
    decision: Mapping[str, Any] | None = None
    """Temperature and threshold that an export holds."""
    made: nn.Module | None = None
    """The model without these weights, where reading the file has made one."""

    @property
    def model(self) -> dict[str, Any]:
        """Options of the model, with ``backbone``."""
        return dict(self.content["config"]["model"])

    def build(self) -> nn.Module:
        """The detector; UserError: the weights do not fit its backbone, or are of no detector."""
        return model_from_checkpoint(self.content, self.path, self.made)


def detector_file(path: str) -> str:
    """The file that a path names: itself, or for a folder the weights in it.

    Raises:
        UserError: a folder holds no weights that are known by their name.
    """
    if not is_dir(expanded(path)):
        return path
    store = open_store(path)
    names: tuple[str, ...] = _FILES
    if store.exists(YAML):
        stated = read_mapping(store.read(YAML), yaml.safe_load, f"{path}/{YAML}").get("weights_file")
        names = (str(stated), *_FILES) if stated else _FILES
    for name in names:
        if store.exists(name):
            return f"{path.rstrip('/')}/{name}"
    raise UserError(f"{path} is a folder without {', '.join(names)}; name the file of the detector")


def load_detector(path: str, given: FileModel = _NOTHING_GIVEN) -> DetectorFile:
    """Reads a detector's file once.

    Args:
        path: path or URL; see `detector_file`.
        given: what the file does not say.

    Raises:
        UserError: there is no such file, it is damaged, or it does not say enough of its model; or something
            is given that it says itself.
    """
    path = detector_file(path)
    folder, name = split_path(path)
    store = open_store(folder)
    data = stored(store, name, path)
    content, digest = read_tensors(data, path), hashlib.sha256(data).hexdigest()
    if "format" in content:
        _refuse_given(given, path)
        return DetectorFile(path=path, sha256=digest, content=content)
    beside = f"{name.removesuffix(SAFETENSORS)}.json"
    if path.endswith(SAFETENSORS) and store.exists(beside):
        _refuse_given(given, path)
        return _exported(store, beside, path, digest, content)
    return _published(store, name, path, digest, content, given)


def _exported(store: Store, beside: str, path: str, digest: str, state: dict[str, Tensor]) -> DetectorFile:
    where = f"{store.url}/{beside}"
    try:
        found = json.loads(store.read(beside))
        if found["format"] != EXPORT:
            raise ValueError(f"format {found['format']!r}")
        model = {key: str(found["model"][key]) for key in ("backbone", "normalize")}
        decision, view = dict(found["decision"]), str(found.get("view", "whole"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where} is not an export's JSON of format {EXPORT!r} ({error}); export again"
        ) from error
    content = {"config": {"model": model}, "model": state}
    return DetectorFile(path=path, sha256=digest, content=content, view=view, decision=decision)


def _published(
    store: Store, name: str, path: str, digest: str, state: dict[str, Tensor], given: FileModel
) -> DetectorFile:
    stated = Stated() if given.backbone else read_stated(store, name)
    if has_lora(state):
        state = without_prefixes(state)
        stated = _of_dda(state, given, path)
    backbone, normalize = given.backbone or stated.backbone, given.normalize or stated.normalize
    if backbone is None or normalize is None:
        lacks = " and ".join(
            one for one, known in (("backbone", backbone), ("normalize", normalize)) if known is None
        )
        raise UserError(
            f"{path} does not say its model's {lacks}, and neither does a config.yaml, a config.json or (of "
            f"train.export) a JSON of its name beside it; {BY_HAND}"
        )
    # For its names and shapes. Not on the device "meta": its first use imports half of torch, for seconds.
    model = build_model(ModelConfig(backbone=backbone, normalize=normalize))
    if stated.pooling not in (None, own := pooling_of(model)):
        raise UserError(
            f"{path}: pooling {stated.pooling!r}, but {backbone} has {own!r}, and no option changes it"
        )
    content = {
        "config": {"model": {"backbone": backbone, "normalize": normalize}},
        "model": _adopted(state, model, stated, given, path),
    }
    if given != _NOTHING_GIVEN:  # other options make another detector of the same bytes
        # Calibrations hold it: a new option of `FileModel` would make them those of another detector.
        alpha = None if given.lora_alpha is None else float(given.lora_alpha)
        digest = hashlib.sha256(f"{digest} {replace(given, lora_alpha=alpha)}".encode()).hexdigest()
    theirs = "" if stated.view == "whole" else f"; its authors look at {stated.view}"
    _LOG.info("%s: %s, normalisation %s%s", path, backbone, normalize, theirs)
    return DetectorFile(path=path, sha256=digest, content=content, view=stated.view, made=model)


def _adopted(
    state: dict[str, Tensor], model: nn.Module, stated: Stated, given: FileModel, path: str
) -> dict[str, Tensor]:
    if has_lora(state):
        table = model.state_dict().get("timm.pos_embed")
        state = merged(state, given.lora_alpha, 0 if table is None else table.shape[1], path)
    elif given.lora_alpha is not None:
        raise UserError(
            f"{path} holds no LoRA, so model.lora_alpha={given.lora_alpha} would be ignored; leave it out"
        )
    if is_of_transformers(state):
        names = {name.removeprefix("timm."): value for name, value in model.state_dict().items()}
        state = timm_tensors(state, names, path)
    state = owned(without_prefixes(state), model)
    head = given.head or head_of(stated.outputs, rows_of(state, model), path)
    return one_output(state, model, head, path)


def _of_dda(state: dict[str, Tensor], given: FileModel, path: str) -> Stated:
    """DDA has no config; ``Inference/inference.py`` has its normalisation and view."""
    backbone = given.backbone or backbone_of(state, path)
    side = backbone.partition("@")[2] or SIDE
    return Stated(backbone=backbone, normalize="clip", view=f"crop:{side}")


def _refuse_given(given: FileModel, path: str) -> None:
    for name, value in asdict(given).items():
        if value is not None:
            raise UserError(f"model.{name}={value} would be ignored: {path} says it itself; leave it out")
