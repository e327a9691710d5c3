"""Presents the audit as text, as JSON and as a picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from typing import Any

import numpy as np

from pack.inspect.audit.judge.nuisances import Finding
from pack.inspect.audit.judge.separation import Separation
from pack.inspect.audit.measured.images import CLASSES, Measurements
from recon.base.errors import UserError

_HEAD = ("nuisance", "real", "fake", "separation (95 %)", "of", "bound", "verdict")
_WIDEST = 34  # characters of a column, at most
_DOTS_PER_INCH = 110
_COLOURS = {"real": "tab:blue", "fake": "tab:orange"}


def table(findings: Sequence[Finding]) -> str:
    """The findings in columns, and a line for each that has advice, as each leak has."""
    rows = [_HEAD, *map(_row, findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    advice = [f"{one.verdict} {one.name}: {one.advice}" for one in findings if one.advice]
    return "\n".join([*lines, "", *advice] if advice else lines) + "\n"


def as_json(about: dict[str, Any], findings: Sequence[Finding]) -> str:
    """The facts in `about`, which say what was audited and how, and the findings, as JSON."""
    facts = about | {"findings": [asdict(one) for one in findings]}
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def draw(sample: Measurements) -> bytes:
    """Draws the main statistics by class, as the bytes of a PNG.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the plots need matplotlib; pip install -e '.[plot]'") from error
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    _draw_differences(axes[0, 0], sample)
    _draw_levels(axes[0, 1], sample)
    _draw_phases(axes[0, 2], sample)
    labels = {
        "gaps": "empty grey levels (share)",
        "jpeg_traces": "JPEG traces (0 none, 1 all blocks)",
        "high_frequency": "high frequencies (log10; the trace moves it)",
    }
    for place, (name, label) in zip(axes[1], labels.items(), strict=True):
        _draw_classes(place, sample, name, label)
    out = BytesIO()
    # The Agg canvas directly, not pyplot: pyplot keeps global state and may want a display.
    FigureCanvasAgg(figure).print_figure(out, dpi=_DOTS_PER_INCH, format="png")
    return out.getvalue()


def _row(one: Finding) -> tuple[str, ...]:
    bound = "" if one.bound is None else f"{one.bound:.2f}"
    cells = (one.name, one.real, one.fake, _interval(one.separation), one.by, bound, one.verdict)
    return tuple(cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 3]}..." for cell in cells)


def _interval(found: Separation | None) -> str:
    if found is None:
        return ""
    value = f"{found.value:.3f}"
    return value if found.low == found.high else f"{value} ({found.low:.3f} to {found.high:.3f})"


def _draw_differences(axes: Any, sample: Measurements) -> None:
    """Histograms of fake - real by channel; each pair counts once per channel."""
    channels, bins = ("red", "green", "blue"), 60
    differences = {name: sample.differences(name) for name in channels}
    # The range of 98 % of the pairs, and .clip for the rest: a few outliers would squeeze all bars.
    reach = max(1.0, *(float(np.quantile(np.abs(values), 0.98)) for values in differences.values()))
    for name, values in differences.items():
        limited, edges = values.clip(-reach, reach), np.linspace(-reach, reach, bins + 1)
        axes.hist(limited, edges, histtype="step", color=name, label=name)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set(xlabel="fake - real, mean level of a pair", ylabel="pairs")
    axes.legend()


def _draw_levels(axes: Any, sample: Measurements) -> None:
    for name in CLASSES:
        shares = sample.levels[name].mean(axis=0) / len(sample.pairs)
        axes.step(np.arange(256), shares, where="mid", linewidth=0.8, color=_COLOURS[name], label=name)
    axes.set(xlabel="grey level", ylabel="share of pixels", yscale="log")
    axes.legend()


def _draw_phases(axes: Any, sample: Measurements) -> None:
    for name in CLASSES:
        profile = sample.phases[name] / max(float(sample.phases[name].mean()), 1e-9)  # no division by 0
        axes.plot(range(8), profile, marker="o", color=_COLOURS[name], label=name)
    axes.set(xlabel="phase of the 8-grid (7 crosses it)", ylabel="gradient, relative to the mean")
    axes.legend()


def _draw_classes(axes: Any, sample: Measurements, name: str, label: str) -> None:
    known = {which: values[~np.isnan(values)] for which in CLASSES for values in [sample.values(which, name)]}
    together = np.concatenate(list(known.values()))
    if len(together):
        # Common edges for both classes; the 1e-3 keeps them rising where all values are equal.
        edges = np.linspace(together.min(), max(together.max(), together.min() + 1e-3), 41)
        for which, values in known.items():
            axes.hist(values, edges, histtype="step", color=_COLOURS[which], label=which)
        axes.legend()
    axes.set(xlabel=label, ylabel="images")
