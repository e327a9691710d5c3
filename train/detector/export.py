"""Writes a detector for other programs: its weights without the state of a training, and as ONNX.

    python -m train.export --checkpoint runs/mine/best.pt --out detector --onnx

Writes into ``--out``: ``detector.safetensors`` (weights), ``detector.json`` (backbone, normalisation,
temperature and threshold), ``README.md`` (the model card) and, with ``--onnx``, ``detector.onnx``. The ONNX
model takes RGB levels 0..255 as float32 (batch, 3, height, width) and gives a logit for each image; the
normalisation is inside. Of an earlier export there, ``detector.onnx`` (unless it is written again) and the
calibration of its weights are removed: they would belong to other weights, or contradict the new decision.
"""

import logging
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from recon.base.cli import run
from recon.base.errors import UserError
from recon.place.alone import refuse_ranks
from train.model.config import FileModel

if TYPE_CHECKING:  # heavy; --help answers at once
    from train.detector.detector import Detector

_TRACED = (1, 3, 32, 32)  # any size: the graph depends on none
_PROG = "python -m train.export"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which detector, and where to."""

    checkpoint: str
    """Checkpoint of a training run, or published weights; the calibration beside it goes along."""
    out: str
    """Directory or URL of the files."""
    onnx: bool = False
    """Whether to write detector.onnx, too."""
    license: str = "unknown"
    """License of the weights, for the model card."""
    view: str | None = None
    """What the exported detector looks at, see train.evaluate; None: as now."""
    model: FileModel = field(default_factory=FileModel)
    """What a published file doesn't say of its model."""


def main() -> None:
    """Runs the command line."""
    run(ExportConfig, _job, prog=_PROG, about=__doc__ or "")


def export(config: ExportConfig) -> list[str]:
    """Writes the files and returns their names.

    Raises:
        UserError: the checkpoint can't be used, or ONNX is asked for and can't be had.
    """
    from pack.base.writable import check_writable
    from pack.storage import open_store
    from train.detector.card import card
    from train.detector.detector import Detector
    from train.detector.exported import ONNX, OPTIONS, options_text, replace_export, weights_bytes
    from train.evaluation.look import asked_look
    from train.model.published.load import WEIGHTS, load_detector

    file, store = load_detector(config.checkpoint, config.model), open_store(config.out)
    check_writable(f"{config.out}/{WEIGHTS}")
    detector = Detector.of(file, device="cpu", look=asked_look(config.view, None))
    content = {WEIGHTS: weights_bytes(detector.model.state_dict())}
    backbone = str(file.model["backbone"])
    if config.onnx:
        content[ONNX] = onnx_bytes(detector, backbone)
    content["README.md"] = card(file, detector, config.license).encode("utf-8", "surrogateescape")
    options = options_text(backbone, detector.normalization, str(detector.look), detector.decision)
    content[OPTIONS] = options.encode()
    replace_export(store, content)
    return list(content)


def onnx_bytes(detector: "Detector", backbone: str) -> bytes:
    """The detector as an ONNX model with its normalisation, for any batch, height and width.

    Args:
        detector: any.
        backbone: its name, for messages.

    Raises:
        UserError: onnx is not installed, or an operation of the detector has no ONNX form.
    """
    import torch

    from train.detector.exported import ONNX
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
        raise UserError("--onnx needs onnx; pip install -e '.[onnx]'")
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
            f"{backbone} with normalize={detector.normalization} has no ONNX form: "
            f"{str(error).strip().splitlines()[0] if str(error) else type(error).__name__}; leave --onnx out"
        ) from error


def _job(config: ExportConfig) -> None:
    refuse_ranks(os.environ, _PROG)
    for name in export(config):
        _LOG.info("%s/%s", config.out.rstrip("/"), name)
