"""Drawings by matplotlib, as inline SVG that takes the colours of the page, or as a file."""

import os
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from recon.base.errors import UserError

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
    "grid.alpha": 0.15,
    "svg.fonttype": "none",  # text stays text, for readers and for search
}
_DOTS_PER_INCH = 110


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
    figure = _figure([draw], (width, height), {**dict.fromkeys(_INKED, _INK), "svg.hashsalt": about})
    file = StringIO()
    # The salt and no date: equal drawings are equal text, and different ones share no ids.
    with _rc({"svg.hashsalt": about, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    inner = text[text.index("</metadata>") + len("</metadata>") :]
    box = f"0 0 {72 * width:g} {72 * height:g}"
    head = f'<svg role="img" aria-label="{escape(about)}" viewBox="{box}" xmlns:xlink="{_XLINK}">'
    return f"{head}{inner}".replace(_INK, "currentColor")


_XLINK = "http://www.w3.org/1999/xlink"  # a name in SVG, not an address that is read


def save_png(draws: Sequence[Draw], path: Path, width: float, height: float) -> None:
    """Draws side by side into a PNG file.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = _figure(draws, (width, height), {})
    # Written under another name and renamed, so that a killed command leaves no half picture.
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=_DOTS_PER_INCH, format="png")
    os.replace(partial, path)


def _figure(draws: Sequence[Draw], size: tuple[float, float], colours: dict[str, Any]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the curves need matplotlib; pip install pairstream[plot]") from error
    with _rc(_STYLE | colours):
        # Without pyplot, which needs global state and may look for a display.
        figure = Figure(figsize=size, layout="constrained")
        for draw, axes in zip(draws, figure.subplots(1, len(draws), squeeze=False)[0], strict=True):
            draw(axes)
    return figure


def _rc(style: Any) -> Any:
    from matplotlib import rc_context

    return rc_context(style)
