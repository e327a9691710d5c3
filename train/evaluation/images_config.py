"""The options of all commands that score the images of a place with one detector."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recon.base.options import at_least_one
from train.model.config import FileModel

if TYPE_CHECKING:  # heavy; --help answers at once
    from train.evaluation.inputs.source import ImageSource

_LOG = logging.getLogger(__name__)


MAY_DIFFER = {
    "device": "cuda and auto may mean the same; what each rank found is compared",
    "threads": "cores of the node",
}
"""The options that nodes which score together may have different values of, and why; no others."""


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which detector, which images, and how they are read and scored."""

    checkpoint: str
    """Checkpoint of a training run, what train.export wrote, or published weights (file, or folder of it)."""
    data: str
    """The images: a packed dataset, a folder, a table (.csv, .parquet), Parquet files or tars with images, or one image; a path, a pattern (quoted), or a URL."""  # noqa: E501
    real: str | None = None
    """Folders or values of the label column that mean real, with commas between; in place of the usual."""
    fake: str | None = None
    """The same for fakes. With --real alone, every other value of the column is a generator's name."""
    path_column: str | None = None
    """Column of a table that holds the paths, or of Parquet files that holds the images."""
    label_column: str | None = None
    """Column of the labels."""
    group_column: str | None = None
    """Column of the label groups, e.g. the generators."""
    crop: int | None = None
    """Score only the centre crop of this side in pixels; smaller images are mirrored. Short for view=crop:N.
    """
    view: str | None = None
    """What is scored of each image: whole, crop:N, five:N, ten:N (crops whose logits are averaged), resize:N,
    resize:N+crop:N; see the README. None: as the detector's authors do, if its file tells, else whole."""
    model: FileModel = field(default_factory=FileModel)
    """What a published file doesn't say of its model."""
    batch_size: int = 16
    """Most images, all of one size, in a batch on a GPU; batches of large images are smaller. With 1, as on
    a CPU, equal images get equal scores."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda if there is a GPU."""
    threads: int | None = None
    """Threads that decode; by default one for each CPU of this process."""
    max_pixels: int = 100_000_000
    """Leave out images with more pixels than this."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least_one(self, "crop", "batch_size", "max_pixels", "threads")
        from train.evaluation.look import asked_look

        asked_look(self.view, self.crop, self.max_pixels)


def open_images(config: ImagesConfig, group_by: str = "group", label: str | None = None) -> "ImageSource":
    """Opens the images, and tells what was understood.

    Args:
        config: the options.
        group_by: the index column that gives the label groups of a packed dataset.
        label: what all images are, ``real`` or ``fake``; None if folders or columns tell.

    Raises:
        UserError: there is nothing, or what there is can't be told or read; the message lists the choices.
    """
    from train.evaluation.inputs.find import open_source
    from train.evaluation.inputs.labels import words_of
    from train.evaluation.inputs.source import described
    from train.evaluation.inputs.tables import Columns

    columns = Columns(path=config.path_column, label=config.label_column, group=config.group_column)
    source = open_source(config.data, group_by, words_of(config.real, config.fake, label), columns)
    _LOG.info("%s", described(source, config.data))
    return source
