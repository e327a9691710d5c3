"""Writes a detector for other programs: its weights without the state of a training, and as ONNX.

    python -m train.export --checkpoint runs/mine/best.pt --out detector --onnx

Writes into ``--out``: ``detector.safetensors`` (weights), ``detector.json`` (backbone, normalisation,
temperature and threshold), ``README.md`` (the model card) and, with ``--onnx``, ``detector.onnx``. The ONNX
model takes RGB levels 0..255 as float32 (batch, 3, height, width) and gives a logit for each image; the
normalisation is inside.
"""

import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.base.cli import run
from recon.base.errors import UserError

if TYPE_CHECKING:  # heavy; --help answers at once
    from train.detector.detector import Detector

ONNX = "detector.onnx"
_TRACED = (1, 3, 32, 32)  # any size: the graph depends on none
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which detector, and where to."""

    checkpoint: str
    """Checkpoint of a training run; the calibration beside it goes along."""
    out: str
    """Directory or URL of the files."""
    onnx: bool = False
    """Whether to write detector.onnx, too."""
    license: str = "unknown"
    """License of the weights, for the model card."""


def main() -> None:
    """Runs the command line."""
    run(ExportConfig, _job, prog="python -m train.export", about=__doc__ or "")


def export(config: ExportConfig) -> list[str]:
    """Writes the files and returns their names.

    Raises:
        UserError: the checkpoint can't be used, or ONNX is asked for and can't be had.
    """
    from pack.storage import open_store
    from train.detector.detector import Detector
    from train.detector.exported import OPTIONS, WEIGHTS, options_text, weights_bytes
    from train.model.checkpoint import load_checkpoint

    detector = Detector.load(config.checkpoint, device="cpu")
    content = {WEIGHTS: weights_bytes(detector.model.state_dict())}
    if config.onnx:
        content[ONNX] = onnx_bytes(detector)
    content["README.md"] = card(detector, load_checkpoint(config.checkpoint), config).encode()
    content[OPTIONS] = options_text(detector.config, detector.decision).encode()
    store = open_store(config.out)
    for name, data in content.items():  # the JSON is last: if it is there, all files are
        with store.publish(name) as file:
            file.write(data)
    return list(content)


def onnx_bytes(detector: "Detector") -> bytes:
    """The detector as an ONNX model with its normalisation, for any batch, height and width.

    Raises:
        UserError: onnx is not installed, or an operation of the detector has no ONNX form.
    """
    import torch

    from train.model.normalize import find_normalization

    class Whole(torch.nn.Module):
        """Levels 0..255 to logits."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.apply_to = detector.model, find_normalization(detector.normalization).apply

        def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
            logit_B: torch.Tensor = self.model(self.apply_to(x_B3HW))
            return logit_B

    if find_spec("onnx") is None:
        raise UserError("--onnx needs onnx; pip install pairstream[onnx]")
    free = {0: "batch", 2: "height", 3: "width"}
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own code
            file = Path(folder, ONNX)
            torch.onnx.export(
                Whole().eval(),
                (torch.zeros(_TRACED),),
                file,
                dynamo=False,  # the other exporter needs onnxscript
                input_names=["levels"],
                output_names=["logit"],
                dynamic_axes={"levels": free, "logit": {0: "batch"}},
                opset_version=17,
            )
            return file.read_bytes()
    except Exception as error:  # the exporter raises many types of errors for operations without a form
        raise UserError(
            f"{detector.config['backbone']} with normalize={detector.normalization} has no ONNX form: "
            f"{str(error).strip().splitlines()[0] if str(error) else type(error).__name__}; leave --onnx out"
        ) from error


def card(detector: "Detector", checkpoint: Mapping[str, Any], config: ExportConfig) -> str:
    """The model card, with what the checkpoint and its calibration tell."""
    decision, model = detector.decision, detector.config
    count = sum(value.numel() for value in detector.model.parameters())
    lines = [
        "---",
        f"license: {config.license}",
        "tags: [generated-image-detection, pairstream]",
        "---",
        "",
        "# Detector of generated images",
        "",
        f"Backbone `{model['backbone']}`, normalisation `{detector.normalization}`, {count:,} parameters. "
        "Trained on aligned pairs: photographs and their reconstructions by a generator's autoencoder.",
        "",
        "| | |",
        "| --- | --- |",
        f"| checkpoint | `{config.checkpoint}`, epoch {checkpoint.get('epoch', DASH)}, "
        f"step {checkpoint.get('step', DASH)} |",
        f"| training data | `{_training_data(checkpoint)}` |",
        f"| verdict | fake above logit {decision.threshold:.6g}, probability {decision.probability:.4g} "
        f"({decision.origin}) |",
        f"| probability of fake | sigmoid(logit / {decision.temperature:.6g}) |",
        *_validation(checkpoint.get("val")),
        "",
        "## Use",
        "",
        "```python",
        "from train import Detector",
        "",
        'print(Detector.load("detector.safetensors").score(["photo.jpg"]))',
        "```",
        "",
        "## Limits",
        "",
        "It finds the traces of autoencoders related to those it was trained on. A low score is no proof "
        "that a photograph is real: strong compression or down-scaling removes the trace, and images that no "
        "latent decoder made have none.",
    ]
    return "\n".join(lines) + "\n"


DASH = "–"  # noqa: RUF001  # an en dash, not a minus sign


def _training_data(checkpoint: Mapping[str, Any]) -> str:
    data = checkpoint["config"].get("data")
    return str(data.get("train", "unknown")) if isinstance(data, Mapping) else "unknown"


def _validation(found: object) -> list[str]:
    """A row with the figures of the validation that the checkpoint holds, if it holds any."""
    if not isinstance(found, Mapping):
        return []
    shown = [
        f"{name} {found[name]:.3f}" for name in ("auc", "balanced_accuracy") if found.get(name) is not None
    ]
    return [f"| validation | {', '.join(shown)} |"] if shown else []


def _job(config: ExportConfig) -> None:
    for name in export(config):
        _LOG.info("%s/%s", config.out.rstrip("/"), name)
