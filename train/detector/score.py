"""Scores photographs: a line for each, with the probability that a latent generator's decoder made it.

    python -m train.score runs/mine/best.pt photo.jpg folder https://example.org/photo.jpg --heatmap out.png

Images may be files, folders (with all below them) and URLs. The verdict is that of the threshold which
``train.calibrate`` found, or of probability .5. A low probability is no proof that a photograph is real:
strong compression or down-scaling removes the trace. Images that can't be scored are listed; then the status
is 1.
"""

import csv
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from recon.base.cli import run
from recon.base.errors import UserError
from recon.base.options import at_least_one, refuse_idle
from recon.base.paths import expanded, is_dir, split_path
from recon.place.alone import refuse_ranks
from train.model.config import FileModel

if TYPE_CHECKING:  # heavy; --help answers at once
    from recon.image.codec import Pixels
    from train.detector.detector import Detector, Verdict

_PROG = "python -m train.score"
_LOG = logging.getLogger(__name__)
_COLUMNS = ("name", "probability", "verdict", "logit", "looked_at", "trouble")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Which detector, which images, and what is written."""

    checkpoint: str = field(kw_only=False)
    """Checkpoint of a training run, what train.export wrote, or published weights; a file, or its folder."""
    images: list[str] = field(kw_only=False)
    """Images, folders of images, or URLs of either."""
    csv: str | None = None
    """CSV file to write: name, probability, verdict, logit, looked_at, trouble."""
    json: str | None = None
    """JSON file to write, with the same values and the decision."""
    heatmap: str | None = None
    """PNG to draw for a single image: the probabilities of a sliding window over it."""
    window: int = 96
    """Side of the heat map's window in pixels."""
    threshold: str | float | None = None
    """An image counts as fake above this probability; see train.evaluate. None: as calibrated, else .5."""
    crop: int | None = None
    """Score only the centre crop of this side in pixels. Short for view=crop:N."""
    view: str | None = None
    """What is scored of each image; see train.evaluate."""
    model: FileModel = field(default_factory=FileModel)
    """What a published file doesn't say of its model."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda if there is a GPU."""
    max_pixels: int = 100_000_000
    """Refuse images with more pixels than this."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least_one(self, "window", "crop", "max_pixels")
        if self.heatmap is None:
            refuse_idle(self, "window", because="there is no --heatmap")
        from train.evaluation.look import asked_look

        asked_look(self.view, self.crop, self.max_pixels)


def main() -> None:
    """Runs the command line."""
    run(ScoreConfig, _job, prog=_PROG, about=__doc__ or "")


def images_at(places: Sequence[str]) -> list[str]:
    """The paths and URLs of all images: those named, and those below the folders named.

    Raises:
        UserError: a folder or a prefix of a bucket holds no image.
    """
    return [image for place in places for image in _images_at(place)]


def _images_at(place: str) -> Iterator[str]:
    from pack.storage import open_store
    from recon.base.walk import LeftOut
    from recon.image.codec import SUFFIXES
    from recon.listing import images_among, tell, without_masks

    is_url = "://" in place
    path = place if is_url else str(expanded(place))
    if not is_dir(path) and (not is_url or path.startswith("http") or path.lower().endswith(SUFFIXES)):
        yield path
        return
    left_out = LeftOut()
    found = images_among(open_store(path).walk((), left_out.add), left_out.add)
    found = without_masks(found, left_out.add)
    tell(place, left_out)
    if not found:
        raise UserError(f"{place} holds no image; expected files such as {', '.join(SUFFIXES)}")
    yield from (f"{path.rstrip('/')}/{name}" for name, _ in found)


def _job(config: ScoreConfig) -> int:
    refuse_ranks(os.environ, _PROG)
    from pack.base.writable import check_apart, check_writable
    from train.detector.detector import Detector

    images = images_at(config.images)
    if config.heatmap is not None and len(images) != 1:
        raise UserError(f"heatmap={config.heatmap} is for a single image, found {len(images)}")
    outputs = (config.csv, config.json, config.heatmap)
    check_apart(outputs, [config.checkpoint, *images])
    check_writable(*outputs)  # not after an hour of scoring
    detector = Detector.load(
        config.checkpoint,
        device=config.device,
        threshold=config.threshold,
        crop=config.crop,
        view=config.view,
        model=config.model,
    )
    rows = []
    for row in _rows(detector, images, config):
        sys.stdout.write(_line(row) + "\n")
        rows.append(row)
    _write(config, detector, rows)
    broken = sum(bool(row["trouble"]) for row in rows)
    if broken:
        _LOG.error("%d of %d images can't be scored", broken, len(rows))
    return 1 if broken else 0


def _rows(detector: "Detector", images: Sequence[str], config: ScoreConfig) -> Iterator[dict[str, object]]:
    from train.detector.photographs import read_pixels

    for image in images:
        try:
            pixels = read_pixels(image, image, config.max_pixels)
            found = detector.verdict(image, pixels, detector.look)
        except UserError as error:
            if len(images) == 1:  # the mistake is all there is to say
                raise
            yield {**dict.fromkeys(_COLUMNS, ""), "name": image, "trouble": str(error)}
            continue
        yield _row(found)
        if config.heatmap is not None:
            _draw(detector, image, pixels, config)


def _row(found: "Verdict") -> dict[str, object]:
    return {
        "name": found.name,
        "probability": found.probability,
        "verdict": "fake" if found.is_fake else "real",
        "logit": found.logit,
        "looked_at": found.looked_at,
        "trouble": "",
    }


def _line(row: dict[str, object]) -> str:
    if row["trouble"]:
        return f"    -  -     {row['trouble']}"
    return f"{row['probability']:.3f}  {row['verdict']}  {row['name']}  ({row['looked_at']})"


def _draw(detector: "Detector", image: str, pixels: "Pixels", config: ScoreConfig) -> None:
    from pack.base.writable import write_file
    from train.detector.heatmap import heatmap

    assert config.heatmap is not None
    name = split_path(image)[1]
    write_file(
        config.heatmap,
        heatmap(detector.logit, pixels, detector.decision, window=config.window, title=name),
    )


def _write(config: ScoreConfig, detector: "Detector", rows: list[dict[str, object]]) -> None:
    from pack.base.writable import write_file

    if config.csv is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(config.csv, text.getvalue().encode("utf-8", "surrogateescape"))
    if config.json is not None:
        content = {
            "checkpoint": config.checkpoint,
            "view": str(detector.look),
            "decision": asdict(detector.decision),
            "images": rows,
        }
        write_file(config.json, (json.dumps(content, indent=2) + "\n").encode())
