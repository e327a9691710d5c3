"""The table of presets, for ``python -m recon --list``."""

from collections.abc import Iterable
from pathlib import Path

from recon.base.errors import UserError
from recon.models.files.source import CONFIG, open_source
from recon.models.presets import PRESETS, Preset

COLUMNS = ("preset", "class", "factor", "weights", "to accept", "note")


def rows() -> list[tuple[str, ...]]:
    """Returns the presets as text, in the `COLUMNS`."""
    return [
        (name, one.model_class or "-", str(one.factor), _weights(one), one.gate or "-", one.note)
        for name, one in PRESETS.items()
    ]


def table() -> str:
    """Returns the presets and what of them is in the hub's cache, as lines for a terminal."""
    cached = [("cached", *map(_cached, PRESETS.values()))]
    columns = [*zip(COLUMNS, *rows(), strict=True)]
    lines = zip(*columns[:-1], *cached, columns[-1], strict=True)
    return "\n".join(_aligned(list(lines)))


def _aligned(lines: list[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _weights(preset: Preset) -> str:
    return f"{preset.millions:.3g} M" if preset.millions else "-"


def _cached(preset: Preset) -> str:
    """Returns whether the preset's files are on this machine."""
    if preset.revision is None:
        return "embedded"
    from huggingface_hub import try_to_load_from_cache

    name = "/".join(part for part in (preset.subfolder, CONFIG) if part)
    found = try_to_load_from_cache(preset.id, name, revision=preset.revision)
    if not isinstance(found, str):  # None, or a marker of the file's absence
        return "no"
    try:
        open_source(Path(found).parent)
    except UserError:  # not all of it
        return "no"
    return "yes"
