"""The model card of an exported detector: what it was trained on, how well it does, what it can't do.

Its YAML header is that of the Hugging Face hub (huggingface.co/docs/hub/model-cards).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pack.shard.manifest import read_manifest
from pack.storage import open_store
from recon.base.errors import UserError
from recon.base.paths import expanded, is_dir, names_in, split_path
from train.detector.detector import Detector
from train.evaluation.figures.table import DASH, cell, shown
from train.model.published.load import WEIGHTS, DetectorFile

_FIGURES = ("auc", "ap", "balanced_accuracy", "tpr_at_fpr_5")
_LIMITS = """\
## Limits

It finds the traces of autoencoders related to those it was trained on. A low score is no proof that a
photograph is real: strong compression or down-scaling removes the trace, and images that no latent decoder
made have none. The figures hold for images such as those they were measured on.
"""


def card(file: DetectorFile, detector: Detector, license_name: str) -> str:
    """The card.

    Args:
        file: the detector as its file has it.
        detector: the same with the decision that goes along.
        license_name: of the weights, such as ``mit``.
    """
    decision, parameters = detector.decision, sum(value.numel() for value in detector.model.parameters())
    lines = [
        _header(license_name),
        "# Detector of generated images",
        "",
        f"Backbone `{file.model['backbone']}`, normalisation `{detector.normalization}`, "
        f"{parameters:,} parameters. One logit for each image, high for a fake.",
        "",
        "| | |",
        "| --- | --- |",
        f"| weights | `{file.path}` |",
        *_training(file.content),
        f"| what it looks at | `{detector.look}` |",
        f"| verdict | fake above logit {decision.threshold:.6g}, probability {decision.probability:.4g} "
        f"({cell(decision.origin)}) |",
        f"| probability of fake | sigmoid(logit / {decision.temperature:.6g}) |",
        "",
        *_evaluations(file),
        "## Use",
        "",
        "```python",
        "from train import Detector",
        "",
        f'print(Detector.load("{WEIGHTS}").score(["photo.jpg"]))',
        "```",
        "",
        _LIMITS,
    ]
    return "\n".join(lines)


def _header(license_name: str) -> str:
    facts = {
        "license": license_name,
        "library_name": "pairstream",
        "pipeline_tag": "image-classification",
        "tags": ["generated-image-detection", "image-forensics", "pairstream"],
    }
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---\n"


def _training(content: Mapping[str, Any]) -> Iterator[str]:
    """Rows on the run that trained it, if it was one of ours."""
    if "epoch" not in content:
        yield "| training | by others; see where the weights come from |"
        return
    yield f"| training | epoch {content['epoch']}, step {content.get('step', DASH)} |"
    data = content["config"].get("data")
    trained = data.get("train", "unknown") if isinstance(data, Mapping) else "unknown"
    for place in trained if isinstance(trained, Mapping) else [trained]:
        yield f"| training data | `{place}`{_pairs(str(place))} |"
    validation = content.get("val")
    if isinstance(validation, Mapping):
        names = [name for name in ("auc", "balanced_accuracy") if validation.get(name) is not None]
        if names:
            yield f"| validation | {', '.join(f'{name} {validation[name]:.3f}' for name in names)} |"


def _pairs(place: str) -> str:
    """What the dataset says of itself; where it can't be read from here, nothing."""
    try:
        manifest = read_manifest(open_store(place))
    except (UserError, OSError):
        return ""
    made_by = manifest.provenance.get("autoencoder") or []
    several = made_by if isinstance(made_by, list) else [made_by]
    names = ", ".join(f"`{one['autoencoder']}`" for one in several if "autoencoder" in one)
    return f": {manifest.pairs:,} pairs of photographs and reconstructions" + (
        f" by {names}" if names else ""
    )


def _evaluations(file: DetectorFile) -> Iterator[str]:
    """A table of the evaluations beside the file that are of these very weights."""
    found = [facts for facts in _beside(file.path) if facts.get("checkpoint_sha256") == file.sha256]
    rows = [facts for facts in found if facts.get("overall")]
    if not rows:
        return
    yield "| evaluated on | images | view | AUC | AP | balanced accuracy | TPR at 5 % FPR |"
    yield f"|{' --- |' * (3 + len(_FIGURES))}"
    for facts in rows:
        figures, ends = facts["overall"], facts["overall"].get("intervals") or {}
        values = [shown(name, figures.get(name), ends.get(name)) for name in _FIGURES]
        yield f"| `{facts['data']}` | {facts['images']} | `{facts['view']}` | {' | '.join(values)} |"
    yield ""


def _beside(path: str) -> Iterator[dict[str, Any]]:
    """``metrics.json`` of the evaluations in the folder of a file on disk."""
    folder = split_path(path)[0]
    if "://" in folder or not is_dir(expanded(folder)):
        return
    for name in names_in(expanded(folder)):
        store = open_store(f"{folder}/{name}")
        if name.startswith("eval-") and store.exists("metrics.json"):
            try:
                facts = json.loads(store.read("metrics.json"))
            except ValueError:
                continue
            if isinstance(facts, dict):
                yield facts
