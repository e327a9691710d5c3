"""Scores images with a trained detector, and computes its metrics for each label group.

    python -m train.evaluate --checkpoint out/mine/best.pt --data data/test

The data are a packed dataset (a directory or URL), a folder tree (``.../0_real``, ``.../1_fake``)
or a CSV with the columns filename,typ. Whole images are scored unless ``--crop`` is given. The command
writes to ``--out``: ``scores.csv`` (a row for each image), ``table.md`` and, last, ``metrics.json``.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from recon.base.cli import run
from recon.base.options import at_least_one
from recon.base.paths import safe_name, split_path

if TYPE_CHECKING:  # these imports are heavy; the functions below do them, so that --help answers at once
    import torch
    from torch import nn

    from train.evaluation.images import ImageSource
    from train.evaluation.metrics import Summary
    from train.evaluation.scoring import Waiting

SCORES_COLUMNS = ("name", "group", "label", "logit")
"""The columns of scores.csv; the group is empty for a real image that counts in all groups."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which detector, which images, and how they are scored."""

    checkpoint: str
    """Checkpoint of a training run."""
    data: str
    """Packed dataset (directory or URL), folder tree with 0_real and 1_fake, or CSV with filename,typ."""
    out: str | None = None
    """Directory or URL of the results; by default eval-FOLDER-NAME in the folder of the checkpoint."""
    group_by: str = "group"
    """Column of a packed dataset's index that gives the label groups, e.g. autoencoder, jpeg_quality. All
    fakes of a sample are scored; where they belong to several groups, the real image counts in each group."""
    crop: int | None = None
    """Score only the centre crop of this side in pixels; smaller images are mirrored. None: whole images."""
    batch_size: int = 16
    """Most images, all of one size, in a batch on a GPU; batches of large images are smaller. With 1, as on
    a CPU, equal images get equal scores."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda if there is a GPU."""
    max_pixels: int = 100_000_000
    """Refuse images with more pixels than this."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least_one(self, "crop", "batch_size", "max_pixels")


@dataclass(frozen=True, kw_only=True)
class ScoredImage:
    """An image's score."""

    name: str
    """Path relative to the source, or the pair's key with ``.real``, ``.fake``, ``.fake2``, ..."""
    group: str
    """Label group; empty for a real image that counts in all groups."""
    label: int
    """0 real, 1 fake."""
    logit: float
    """Above 0 for fake."""


def main() -> None:
    """Runs the command line."""
    run(EvaluateConfig, _job, prog="python -m train.evaluate", about=__doc__ or "")


def evaluate(config: EvaluateConfig) -> "dict[str, Summary]":
    """Scores the images, writes the results and returns the metrics by label group.

    Raises:
        UserError: the checkpoint, the data or the device can't be used, an image can't be read
            (the message names it, and no file is written), or a logit is not finite.
    """
    from recon.base.device import find_device
    from train.evaluation.images import open_source
    from train.model.build import model_from_checkpoint, normalization_of
    from train.model.checkpoint import load_checkpoint

    source = open_source(config.data, config.group_by)  # a mistake in --data shows before the model loads
    checkpoint = load_checkpoint(config.checkpoint)
    device = find_device(config.device)
    model = model_from_checkpoint(checkpoint).to(device)
    scores = score_source(
        model,
        source,
        device,
        crop=config.crop,
        batch_size=config.batch_size,
        max_pixels=config.max_pixels,
        normalization=normalization_of(checkpoint),
    )
    rows = summarize_scores(scores)
    facts = {
        "checkpoint": config.checkpoint,
        "backbone": checkpoint["config"]["model"]["backbone"],
        "data": config.data,
        "crop": config.crop,
        "images": len(scores),
    }
    _write(config.out or _beside(config), scores, rows, facts)
    return rows


def score_source(
    model: "nn.Module",
    source: "ImageSource",
    device: "torch.device",
    *,
    crop: int | None,
    batch_size: int,
    max_pixels: int,
    normalization: str = "resnet",
) -> list[ScoredImage]:
    """Scores every image of a source and shows the progress.

    Args:
        model: a detector on `device`.
        source: the images.
        device: the device of the model.
        crop: side of the centre crop in pixels; None scores whole images.
        batch_size: most images, all of one size, in a batch on a GPU.
        max_pixels: larger images are refused.
        normalization: a name in `train.model.normalize.NORMALIZATIONS`, as in training.

    Returns:
        A score for each image, in the order of the source.
    """
    from recon.base.progress import Progress
    from train.evaluation.images import pixels_of
    from train.evaluation.scoring import Waiting, score
    from train.window.geometry import centre_crop

    # Filled while the model scores, because the images are read only once.
    known: list[tuple[str, str, int]] = []

    def waiting() -> "Iterator[Waiting]":
        for index, image in enumerate(source.images()):
            known.append((image.name, image.group, image.label))
            pixels = pixels_of(image, max_pixels)
            yield Waiting(index=index, pixels=pixels if crop is None else centre_crop(pixels, crop))

    logits: dict[int, float] = {}  # by place in the source: batches by size come in another order
    with Progress(total=source.total, unit="images", what="evaluate") as shown:
        scored = score(model, waiting(), batch_size=batch_size, device=device, normalization=normalization)
        for places, batch_B in scored:
            logits.update(zip(places, batch_B.tolist(), strict=True))
            shown.update(len(places))
    return [
        ScoredImage(name=name, group=group, label=label, logit=logits[index])
        for index, (name, group, label) in enumerate(known)
    ]


def summarize_scores(scores: Sequence[ScoredImage]) -> "dict[str, Summary]":
    """The metrics by label group; those of all images come last, with the key `metrics.OVERALL`."""
    import numpy as np

    from train.evaluation.metrics import by_group

    labels_N = np.array([one.label for one in scores])
    logits_N = np.array([one.logit for one in scores])
    return by_group([one.group for one in scores], labels_N, logits_N)


def _job(config: EvaluateConfig) -> None:
    from train.evaluation.metrics import markdown_table

    sys.stdout.write(markdown_table(evaluate(config)))


def _beside(config: EvaluateConfig) -> str:
    """A folder next to the checkpoint; its name has the last two parts of the data's path, and the crop."""
    # Two parts, because the last one alone is often only "test" or "val".
    parts = [part for part in config.data.removesuffix(".csv").split("/") if part not in ("", ".", "..")]
    name = "-".join(["eval", *parts[-2:], *([f"crop{config.crop}"] if config.crop else [])])
    return f"{split_path(config.checkpoint)[0].rstrip('/')}/{safe_name(name)}"


def _write(out: str, scores: list[ScoredImage], rows: "dict[str, Summary]", facts: dict[str, Any]) -> None:
    from pack.storage import open_store
    from train.evaluation.metrics import OVERALL, markdown_table

    groups = {name: asdict(summary) for name, summary in rows.items()}
    overall = groups.pop(OVERALL)
    content = {
        "scores.csv": _csv(scores),
        "table.md": markdown_table(rows),
        "metrics.json": json.dumps(facts | {"overall": overall, "groups": groups}, indent=2) + "\n",
    }
    store = open_store(out)
    for name, text in content.items():  # metrics.json is last: if it is there, all files are
        with store.publish(name) as file:
            file.write(text.encode())


def _csv(scores: list[ScoredImage]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCORES_COLUMNS)
    # float32 has about 7 significant decimal digits.
    writer.writerows((one.name, one.group, one.label, f"{one.logit:.7g}") for one in scores)
    return text.getvalue()
