"""Scores images with a trained detector, and computes its metrics for each label group.

    python -m train.evaluate --checkpoint out/mine/best.pt --data data/test
    torchrun --standalone --nproc-per-node 2 -m train.evaluate ...

The data are a packed dataset, a folder of images, a table, Parquet files or tars with images, or one image,
on disk or at a URL; the README lists the layouts. What was understood is told first. Whole images are scored,
or what the authors of a published detector look at, unless ``--view`` or ``--crop`` is given. The command
writes to ``--out``: ``scores.csv`` (a row for each image), ``rejected.jsonl`` (images that can't be scored,
if there are any), ``table.md`` and, last, ``metrics.json``. Killed, the same command goes on where it was.
"""

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, not_negative
from recon.base.paths import expanded, is_dir, printable, safe_name, split_path
from train.evaluation.images_config import ImagesConfig, open_images
from train.evaluation.work.ranks import ALONE, Ranks

if TYPE_CHECKING:  # these imports are heavy; the functions below do them, so that --help answers at once
    from train.evaluation.figures.decision import Decision
    from train.evaluation.figures.table import Report
    from train.evaluation.inputs.source import ImageSource
    from train.evaluation.look import Look
    from train.model.published.load import DetectorFile

INPUTS = (
    *("group_by", "label", "real", "fake"),
    *("path_column", "label_column", "group_column", "max_pixels"),
)
"""The options without which the images could not be read again as they were; metrics.json keeps them."""

Show = Callable[[str], None]
"""Is given the table of the figures."""

_LOG = logging.getLogger(__name__)
_STEP = re.compile(r"/(step-\d+)\.pt$")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ImagesConfig):
    """Which detector, which images, and how they are scored."""

    out: str | None = None
    """Directory or URL of the results; by default eval-FOLDER-NAME in the folder of the checkpoint. Results
    of other options that lie there are replaced, which is warned of."""
    group_by: str = "group"
    """Column of a packed dataset's index that gives the label groups, e.g. autoencoder, jpeg_quality. All
    fakes of a sample are scored; where they belong to several groups, the real image counts in each group."""
    label: Literal["real", "fake"] | None = None
    """What all images are, where neither folders nor columns tell."""
    max_rejected: float = 1.0
    """Stop if more than this share of the images can't be scored."""
    threshold: str | float | None = None
    """An image counts as fake above this probability; or 'from SCORES at fpr=.01', or 'from SCORES balanced',
    with an evaluation's folder or scores.csv. None: as train.calibrate found, if it was run, else .5."""
    resamples: int = 1000
    """Bootstrap resamples for the intervals."""
    seed: int = 0
    """Seed of the resamples, 0 or larger."""

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        at_least_one(self, "resamples")
        not_negative(self, "seed")
        if not 0.0 <= self.max_rejected <= 1.0:
            raise UserError(f"max_rejected={self.max_rejected}, expected a share 0 to 1")


def to_nobody(_: str) -> None:
    """Stands for a `Show` where nobody wants to see it."""


def evaluate(config: EvaluateConfig, ranks: Ranks = ALONE, show: Show = to_nobody) -> "Report | None":
    """Scores the images, writes the results and returns the figures by label group; None without labels.

    Args:
        config: the options.
        ranks: the processes that evaluate together; each calls this function, and the first one writes.
        show: is given the table by the first one, before anything is written.

    Raises:
        UserError: the checkpoint, the data or the device can't be used, a logit is not finite, or more images
            than `max_rejected` can't be scored.
    """
    source = source_of(config)  # a mistake in --data shows before torch is imported and the model loads

    from pack.base.writable import refuse_results
    from pack.storage import open_store
    from train.evaluation.figures.bootstrap import Bootstrap
    from train.evaluation.results import (
        parted,
        report_on,
        table_of,
        tell_replaced,
        too_many_lost,
        write_results,
    )
    from train.evaluation.scored import scored_parts
    from train.evaluation.work.parts import parts_of, remove_parts

    detector, look, decision = detector_of(config)
    store = open_store(out_of(config))
    if ranks.rank == 0:
        refuse_results(store, "robustness.json", "train.robustness")
        claim(config, f"{store.url}/metrics.json")
    facts, outcomes = scored_parts(config, detector, look, source, store, ranks)
    scores, lost = parted(source.listed, outcomes)
    if too_many := too_many_lost(lost, source.total, config.max_rejected):
        if ranks.rank == 0:
            remove_parts(store, parts_of(source))  # or the next run would not look for these images again
        raise UserError(too_many)
    report = report_on(scores, decision, Bootstrap(resamples=config.resamples, seed=config.seed))
    if ranks.rank == 0:
        facts |= {"images": len(scores), "rejected": dict(Counter(one.kind for _, one in lost))}
        facts["inputs"] = {name: getattr(config, name) for name in INPUTS}
        tell_replaced(store, facts, decision)
        table = table_of(report or decision, scores, facts["rejected"])
        show(table)
        write_results(store, scores, lost, report or decision, table, facts)
        remove_parts(store, parts_of(source))
    return report


def claim(config: EvaluateConfig, file: str) -> None:
    """Tries to write where the results go, before the first image is scored.

    Raises:
        UserError: nothing can be written there.
    """
    from pack.base.writable import check_writable

    try:
        check_writable(file)
    except UserError as error:
        if config.out is not None:
            raise
        raise type(error)(
            f"{error}; results go beside the checkpoint, unless --out names another folder"
        ) from error


def detector_of(config: EvaluateConfig) -> "tuple[DetectorFile, Look, Decision]":
    """The detector, what it looks at in an image, and its temperature and threshold."""
    from train.evaluation.figures.calibration import decision_for
    from train.evaluation.look import asked_look, parse_look
    from train.model.published.load import load_detector

    detector = load_detector(config.checkpoint, config.model)
    look = asked_look(config.view, config.crop, config.max_pixels) or parse_look(detector.view)
    decision = decision_for(detector.path, detector.sha256, config.threshold, str(look), detector.decision)
    return detector, look, decision


def tell(config: EvaluateConfig, ranks: Ranks = ALONE) -> None:
    """Evaluates, and prints the table; the last line, in the log, tells what was left out."""
    from pack.storage import open_store
    from train.evaluation.results import left_out

    evaluate(config, ranks, print_table)
    if ranks.rank == 0:
        store = open_store(out_of(config))
        facts = json.loads(store.read("metrics.json"))
        _LOG.info("%s; see %s", left_out(facts["rejected"], facts["images"]), store.url)


def print_table(table: str) -> None:
    """Prints it at once: it is out even if writing the files fails."""
    sys.stdout.write(printable(table))
    sys.stdout.flush()


def out_of(config: EvaluateConfig) -> str:
    """Where the results go."""
    return config.out or beside(config, "eval")


def source_of(config: EvaluateConfig) -> "ImageSource":
    """Opens the images, and tells what was understood. UserError: see `evaluate`."""
    return open_images(config, config.group_by, config.label)


def beside(config: EvaluateConfig, job: str) -> str:
    """A folder next to the checkpoint, named by the job and by what the figures depend on.

    That is the step of a checkpoint that is not the best, the end of the data's path (two parts: the last one
    alone is often only "test" or "val"), the view, and the column of the groups.
    """
    parts = [part for part in config.data.removesuffix(".csv").split("/") if part not in ("", ".", "..")]
    steps = _STEP.findall(config.checkpoint)
    view = config.view or (f"crop{config.crop}" if config.crop else "")
    column = config.group_column or (config.group_by if config.group_by != "group" else "")
    ends = [view.replace(":", ""), f"by-{column}" if column else ""]
    name = "-".join([job, *steps, *parts[-2:], *filter(None, ends)])
    folder = config.checkpoint if is_dir(expanded(config.checkpoint)) else split_path(config.checkpoint)[0]
    return f"{folder.rstrip('/')}/{safe_name(name)}"
