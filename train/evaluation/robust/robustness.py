"""Scores images under every cell of a grid of degradations, and draws how the figures fall.

    python -m train.robustness --checkpoint out/mine/best.pt --data data/test --grid standard
    torchrun --standalone --nproc-per-node 2 -m train.robustness ...

Each image is read and decoded once, then degraded and scored for each cell: JPEG, WebP, AVIF, resizing,
cropping, blur, noise, and chains of them. A grid is named, or a YAML file of your own. The data are those of
``train.evaluate``, and so are damage, ranks, and going on after a kill. The command writes to ``--out``:
``scores.csv`` (a row for each image and cell), ``rejected.jsonl``, ``table.md``, ``robustness.csv`` (a row
for each cell and label group), a picture for each family of cells and, last, ``robustness.json``.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon.base.errors import UserError
from train.evaluation.evaluate import (
    EvaluateConfig,
    Show,
    beside,
    claim,
    detector_of,
    print_table,
    source_of,
    to_nobody,
)
from train.evaluation.work.ranks import ALONE, Ranks

if TYPE_CHECKING:  # these imports are heavy; the functions below do them, so that --help answers at once
    from train.evaluation.inputs.source import ImageSource
    from train.evaluation.robust.cells import Cell
    from train.evaluation.robust.found import CellFound

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig(EvaluateConfig):
    """Which detector, which images, which grid, and how they are scored."""

    out: str | None = None
    """Directory or URL of the results; by default robustness-GRID-FOLDER-NAME beside the checkpoint."""
    grid: str = "standard"
    """The cells: standard, dda or reference, or a YAML file; see the README."""


def robustness(config: RobustnessConfig, ranks: Ranks = ALONE, show: Show = to_nobody) -> "list[CellFound]":
    """Scores the images in each cell, and writes the results.

    Args:
        config: the options.
        ranks: the processes that score together; each calls this function, and the first one writes.
        show: see `train.evaluation.evaluate.evaluate`.

    Returns:
        What was found in each cell, the images as they are first; empty on other ranks than the first.

    Raises:
        UserError: the grid, the checkpoint, the data or the device can't be used, an image has no label, a
            logit is not finite, or more images than `max_rejected` can't be scored as they are.
    """
    cells, source = _understood(config)  # mistakes show before torch is imported and the model loads

    from pack.base.writable import refuse_results
    from pack.storage import open_store
    from train.evaluation.figures.bootstrap import Bootstrap
    from train.evaluation.results import parted, too_many_lost
    from train.evaluation.robust.curves import need_matplotlib
    from train.evaluation.robust.found import found_in
    from train.evaluation.robust.results import table_of, write_results
    from train.evaluation.scored import scored_parts
    from train.evaluation.work.parts import parts_of, remove_parts

    need_matplotlib()
    detector, look, decision = detector_of(config)
    bootstrap = Bootstrap(resamples=config.resamples, seed=config.seed)
    store = open_store(out_of(config))
    if ranks.rank == 0:
        refuse_results(store, "metrics.json", "train.evaluate")
        claim(config, f"{store.url}/robustness.json")
    views = [cell.view(config.max_pixels) for cell in cells]
    facts, outcomes = scored_parts(config, detector, look, source, store, ranks, views)
    by_cell = [outcomes[number :: len(cells)] for number in range(len(cells))]
    _, lost = parted(source.listed, by_cell[0])
    if too_many := too_many_lost(lost, source.total, config.max_rejected):
        if ranks.rank == 0:
            remove_parts(store, parts_of(source, len(cells)))  # so that the next run looks again
        raise UserError(too_many)
    if ranks.rank > 0:
        return []
    found = [
        found_in(cell, source, of_cell, decision, bootstrap)
        for cell, of_cell in zip(cells, by_cell, strict=True)
    ]
    table = table_of(found)
    show(table)
    write_results(store, source, found, table, facts | {"grid": config.grid})
    remove_parts(store, parts_of(source, len(cells)))
    return found


def tell(config: RobustnessConfig, ranks: Ranks = ALONE) -> None:
    """Does it, and prints the table; the last line, in the log, tells what was left out."""
    from pack.storage import open_store
    from train.evaluation.results import left_out

    found = robustness(config, ranks, print_table)
    if ranks.rank == 0:
        as_is, url = found[0], open_store(out_of(config)).url
        _LOG.info("as they are: %s; see %s", left_out(as_is.left_out, as_is.scored), url)


def out_of(config: RobustnessConfig) -> str:
    """Where the results go."""
    return config.out or beside(config, f"robustness-{Path(config.grid).stem}")


def _understood(config: RobustnessConfig) -> "tuple[list[Cell], ImageSource]":
    """The cells and the images that the options name."""
    from train.evaluation.robust.grid import find_grid

    cells = find_grid(config.grid)
    source = source_of(config)
    unlabelled = sum(one.label is None for one in source.listed)
    if unlabelled:
        raise UserError(
            f"{unlabelled} of {source.total} images of {config.data} have no label, so there are no figures; "
            "pass --label, or see 'Evaluating what you have' in the README for the folders and columns that "
            "have them"
        )
    return cells, source
