"""The report as Markdown, with links to the pictures beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

from train.evaluation.figures.table import cell
from train.reports.inputs.contents import Contents
from train.reports.inputs.pictures import Drawn


def as_markdown(contents: Contents, folder: Path) -> str:
    """The text of the file.

    Args:
        contents: what the report says.
        folder: of the file; links to pictures are relative to it.
    """
    # Line by line, for `cell` makes one line of several.
    note = "\n".join(map(cell, contents.note.splitlines())) if contents.note else ""
    parts = [f"# {cell(contents.title)}", *([note] if note else [])]
    parts += [f"**{cell(contents.mismatch)}.**"] if contents.mismatch else []
    parts += [_facts(contents), contents.found.table.strip()]
    if contents.preview is not None:
        parts.append(_picture(contents.preview.about, contents.preview, folder))
    parts += _robustness(contents.robustness, folder)
    parts.append("![Loss by step; validation by epoch](curves.png)")
    return "\n\n".join(parts) + "\n"


def _facts(contents: Contents) -> str:
    facts = contents.found.facts
    scored = f"{facts['images']} {contents.scored_as} of `{facts['data']}`"
    by = f"Scored by `{facts['checkpoint']}` (`{facts['backbone']}`): {scored}."
    return f"{by}\nThe run `{contents.run}` {contents.history.end}."


def _robustness(pictures: Sequence[Drawn], folder: Path) -> list[str]:
    return [_picture(f"Robustness: {cell(one.about)}", one, folder) for one in pictures]


def _picture(about: str, picture: Drawn, folder: Path) -> str:
    # Markdown ends the target of a link at a space.
    path = os.path.relpath(os.path.realpath(picture.path), os.path.realpath(folder))
    target = Path(path).as_posix().replace(" ", "%20")
    return f"![{about}]({target})"
