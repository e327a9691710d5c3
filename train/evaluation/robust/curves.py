"""The pictures of a robustness test: a family's figures over what is swept, with their intervals."""

import io
from collections.abc import Sequence
from typing import Any

from recon.base.errors import UserError
from train.evaluation.figures.figures import FIGURES
from train.evaluation.robust.cells import AS_IS, Cell
from train.evaluation.robust.found import CellFound

_DRAWN = ("auc", "balanced_accuracy")
_ONE_CLASS = ("accuracy",)
"""What there is without the other class: the share of real images, or of fakes, that is told as such."""
_DOTS_PER_INCH = 110
Points = list[tuple[float, float, float]]
"""A figure and both ends of its interval; NaN for what there is not."""


def need_matplotlib() -> None:
    """UserError: matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("the curves need matplotlib; pip install -e '.[plot]'") from error


def pictures(found: Sequence[CellFound]) -> dict[str, bytes]:
    """PNGs by name: ``curves-FAMILY.png`` for each family with an x axis, ``curves.png`` for other cells.

    Args:
        found: of each cell, the images as they are first.
    """
    families: dict[str, list[CellFound]] = {}
    for one in found:
        if one.cell.x is not None:
            families.setdefault(one.cell.family, []).append(one)
    drawn = {f"curves-{name}.png": _picture(cells, found[0]) for name, cells in families.items()}
    single = [one for one in found if one.cell.x is None]
    return drawn | ({"curves.png": _bars(single)} if len(single) > 1 else {})


def _picture(cells: Sequence[CellFound], as_is: CellFound) -> bytes:
    """A curve for each combination of what else is swept, and a line for the images as they are."""
    names = _names([*cells, as_is])
    figure, panels = _panels(names, _title(cells[0].cell))
    curves: dict[str, list[CellFound]] = {}
    for one in cells:
        curves.setdefault(one.cell.curve, []).append(one)
    for name, axes in zip(names, panels, strict=True):
        for title, ones in curves.items():
            ones = sorted(ones, key=_x)
            xs, (values, lows, highs) = list(map(_x, ones)), zip(*_points(ones, name), strict=True)
            [curve] = axes.plot(xs, values, marker=".", label=title or cells[0].cell.family)
            axes.fill_between(xs, lows, highs, color=curve.get_color(), alpha=0.15, linewidth=0)
        [(value, _, _)] = _points([as_is], name)
        axes.axhline(value, color="black", linestyle="--", linewidth=1, label=AS_IS)
        axes.set(xlabel=cells[0].cell.x and cells[0].cell.x.name, ylabel=FIGURES[name].title)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize="small", loc="outside right center")
    return _png(figure)


def _bars(cells: Sequence[CellFound]) -> bytes:
    """A point with its interval for each cell."""
    names = _names(cells)
    figure, panels = _panels(names, "bars: 95 % intervals")
    places = list(range(len(cells)))
    for name, axes in zip(names, panels, strict=True):
        values, lows, highs = zip(*_points(cells, name), strict=True)
        # Not `errorbar`, which refuses a value outside its interval; a bootstrap may give such a one.
        axes.vlines(places, lows, highs)
        axes.plot(places, values, "o")
        axes.set(ylabel=FIGURES[name].title, xlim=(-0.5, len(cells) - 0.5))
        axes.set_xticks(places, [one.cell.name for one in cells], rotation=30, ha="right")
    return _png(figure)


def _names(found: Sequence[CellFound]) -> Sequence[str]:
    has_both = any(getattr(one.overall, name) is not None for one in found for name in _DRAWN)
    return _DRAWN if has_both else _ONE_CLASS


def _panels(names: Sequence[str], title: str) -> tuple[Any, Any]:
    # Without pyplot, which needs global state and may look for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names) + 1.5, 3.8), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes in panels:
        axes.set(ylim=(0, 1.02))  # so that a curve at 1 can be seen
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure, panels


def _title(one: Cell) -> str:
    chain = ", then ".join(step.op for step in one.steps)
    return f"{one.family}{'' if chain == one.family else f': {chain}'}; bands: 95 % intervals"


def _points(found: Sequence[CellFound], name: str) -> Points:
    rows = [(getattr(one.overall, name), one.overall.intervals.get(name)) for one in found]
    nan = float("nan")
    return [(nan if value is None else value, *(ends or (nan, nan))) for value, ends in rows]


def _x(found: CellFound) -> float:
    assert found.cell.x is not None
    value = found.cell.x.value
    assert isinstance(value, int | float), value
    return value


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(data, dpi=_DOTS_PER_INCH, format="png")
    return data.getvalue()
