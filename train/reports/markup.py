"""Pieces of HTML. What comes from outside, as names of files, goes through `plain` first."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape

from recon.base.paths import printable
from train.evaluation.figures.table import DASH, Table


def plain(text: object) -> str:
    """Text of any origin as HTML that shows it, and is nothing else."""
    return escape(printable(str(text)))


def section(title: str, *parts: str) -> str:
    """A part of the page below a heading; `title` is ours, `parts` are HTML."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{plain(text)}</p>"


def lacking(why: str) -> str:
    """What stands where something can't be shown: a dash, and the reason as plain text."""
    return f'<p class="lacking">{DASH} {plain(why)}</p>'


def grid(parts: Iterable[str], kind: str = "plots") -> str:
    """Parts side by side, as many as there is room for."""
    return f'<div class="{kind}">' + "\n".join(parts) + "</div>"


def figure(picture: str, caption: str) -> str:
    """A picture with a caption; both are HTML."""
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def image(data: bytes, about: str) -> str:
    """A PNG file within the page; `about` is plain text, for those who can't see it."""
    return f'<img alt="{plain(about)}" src="data:image/png;base64,{b64encode(data).decode()}">'


def legend(names: Mapping[str, str]) -> str:
    """What each colour means; colours by plain text."""
    items = (
        f'<li><span class="swatch" style="background:{colour}"></span>{plain(name)}</li>'
        for name, colour in names.items()
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def terms(facts: Mapping[str, str]) -> str:
    """Facts by name, as plain text."""
    return (
        "<dl>"
        + "".join(f"<dt>{plain(name)}</dt><dd>{plain(fact)}</dd>" for name, fact in facts.items())
        + "</dl>"
    )


def table(one: Table) -> str:
    """A table of figures, which scrolls where it is wider than the page."""
    heads = "".join(f'<th scope="col">{plain(head)}</th>' for head in one.heads)
    rows = []
    for row in one.rows:
        kind = ' class="ours"' if row.is_ours else ""
        first = f'<th scope="row"><div class="name">{plain(row.name)}</div></th>'
        rows.append(f"<tr{kind}>{first}{''.join(map(_cell, row.cells))}</tr>")
    # A box that scrolls has to be reachable by the keyboard, and needs a name then.
    box = f'<div class="scrolls" tabindex="0" role="region" aria-label="{plain(one.title)}">'
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<h3>{plain(one.title)}</h3>\n{box}<table>{body}</table></div>"


def _cell(text: str) -> str:
    """A figure; what follows it, an interval or the name of a group, stands below."""
    figure, _, under = text.partition(" ")
    below = f'<div class="under">{plain(under)}</div>' if under else ""
    return f"<td>{plain(figure)}{below}</td>"
