"""The training of a run: its curves on the page, and as the picture for the Markdown."""

from functools import partial
from pathlib import Path

from train.reports.drawing import save_png, svg
from train.reports.inputs.run_log import History
from train.reports.markup import figure, grid, lacking, section
from train.reports.plots import draw_loss, draw_validation


def draw_curves(history: History, path: Path) -> None:
    """Draws the loss by step and the validation metrics by epoch into a PNG.

    Raises:
        UserError: matplotlib is not installed.
    """
    loss = partial(draw_loss, training=history.training)
    save_png([loss, partial(draw_validation, validation=history.validation)], path, 10, 3.6)


def training_section(history: History) -> str:
    """The same as a part of the page."""
    loss = svg(partial(draw_loss, training=history.training), "Training loss by step")
    parts = [figure(loss, "Loss by step")]
    if not history.validation:
        return section("Training", *parts, lacking("the run has logged no validation"))
    seen = svg(partial(draw_validation, validation=history.validation), "Validation by epoch")
    auc, place = max((line["val"]["auc"] or 0.0, -place) for place, line in enumerate(history.validation))
    caption = f"Validation by epoch; highest AUC {auc:.4f} in epoch {history.validation[-place]['epoch']}"
    return section("Training", grid([*parts, figure(seen, caption)]))
