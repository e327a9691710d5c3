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
    logged = ((line["val"]["auc"], line["epoch"]) for line in history.validation)
    best = max((one for one in logged if one[0] is not None), key=lambda one: one[0], default=None)
    told = f"; highest AUC {best[0]:.4f} in epoch {best[1]}" if best else ""
    return section("Training", grid([*parts, figure(seen, f"Validation by epoch{told}")]))
