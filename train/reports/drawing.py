"""Drawings by matplotlib, as inline SVG that takes the colours of the page, or as a file."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import partial_name
from train.reports.markup import plain

Draw = Callable[[Any], None]
"""Draws on the axes that it gets."""

COLOURS = (
    *("#4477dd", "#e0762f", "#2f9e63", "#b05cc6", "#c9a227", "#d6455d"),
    *("#3aa5b8", "#8a6d4b", "#7a86d1", "#94a63a", "#d277a8", "#808890"),
)
"""Of lines and areas: they can be told from each other, and from white and from dark paper."""
REAL, FAKE = COLOURS[0], COLOURS[1]
"""The colours of the two classes."""

_INK = "#010203"  # a colour that nothing else has: the page's own colour of text takes its place
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "svg.fonttype": "none",  # text stays text, for readers and for search
}
_DOTS_PER_INCH = 110
_MARGINS = (0.68, 0.5, 0.12, 0.12)  # inches to the left, below, to the right, above
_XLINK = "http://www.w3.org/1999/xlink"  # a name in SVG, not an address that is read


def svg(draw: Draw, about: str, width: float = 4.6, height: float = 3.2) -> str:
    """A drawing as an SVG element for a page of HTML.

    Args:
        draw: draws on the axes.
        about: what can be seen, for those who can't.
        width: in inches; the page scales the element.
        height: in inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    file, about = StringIO(), plain(about)
    # The salt and no date: equal drawings are equal text, and different ones share no ids.
    with _style({**dict.fromkeys(_INKED, _INK), "svg.hashsalt": about}) as figure_of:
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        figure = figure_of(figsize=(width, height))
        # The same margins for all, so that they stand in line; a layout engine would take twice the time.
        left, bottom, right, top = _MARGINS
        box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        draw(figure.add_axes(box))
        figure.patch.set_visible(False)
        figure.axes[0].patch.set_visible(False)
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    inner = text[text.index("</metadata>") + len("</metadata>") :]
    # What nothing refers to would be the same in all drawings, and an id may be on a page once.
    used = set(re.findall(r"#([\w-]+)", inner))
    inner = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", inner)
    view = f"0 0 {72 * width:g} {72 * height:g}"
    head = f'<svg role="img" aria-label="{about}" viewBox="{view}" xmlns:xlink="{_XLINK}">'
    return f"{head}{inner}".replace(_INK, "currentColor")


def save_png(draws: Sequence[Draw], path: Path, width: float, height: float) -> None:
    """Draws side by side into a PNG file.

    Raises:
        UserError: matplotlib is not installed.
    """
    with _style({}) as figure_of:
        figure = figure_of(figsize=(width, height), layout="constrained")
        for draw, axes in zip(draws, figure.subplots(1, len(draws)), strict=True):
            draw(axes)
        # Written under another name and renamed, so that a killed command leaves no half picture.
        partial = path.with_name(partial_name(path.name))
        figure.savefig(partial, dpi=_DOTS_PER_INCH, format="png")
    os.replace(partial, path)


@contextmanager
def _style(more: Any) -> Iterator[Any]:
    """Within it our style holds; gives matplotlib's class of figures."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # pyplot needs global state, and may look for a display
    except ImportError as error:
        raise UserError("the curves need matplotlib; pip install -e '.[plot]'") from error
    with rc_context(_STYLE | more):
        yield Figure
