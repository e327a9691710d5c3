"""The report as one page of HTML, which holds all it shows: no script, no other file, no network."""

from collections.abc import Sequence

from train.evaluation.figures.figures import FIGURES
from train.evaluation.figures.scores import OVERALL
from train.evaluation.figures.table import DASH, Report, notes_of, shown, tables_of
from train.evaluation.results import left_out
from train.reports.inputs.contents import Contents
from train.reports.inputs.mistakes import Mistake, Mistakes
from train.reports.inputs.pictures import Drawn
from train.reports.markup import figure, grid, image, lacking, plain, section, table, terms
from train.reports.ranking import score_sections
from train.reports.style import STYLE
from train.reports.training import training_section

_CARDS = ("auc", "balanced_accuracy", "tpr_at_fpr_1", "ece")
_CLASSES = {0: ("real images", "Real images taken for fakes"), 1: ("fakes", "Fakes taken for real")}


def as_html(contents: Contents) -> str:
    """The page.

    Raises:
        UserError: matplotlib is not installed.
    """
    report = contents.found.report
    parts = [
        _head(contents),
        _figures(report) if report else section("Figures", lacking("no image has a label")),
        *score_sections(contents.found),
        section("Worst mistakes", *_mistakes(contents.mistakes)),
    ]
    if contents.robustness:
        parts.append(section("Robustness", _pictures(contents.robustness)))
    parts.append(training_section(contents.history))
    if contents.preview is not None:
        parts.append(section("Pairs", _pictures([contents.preview])))
    title = plain(contents.title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without an icon of its own, a browser would ask a server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(contents: Contents) -> str:
    note = f'<p class="note">{plain(contents.note)}</p>' if contents.note else ""
    note += f'<p class="note">{plain(contents.mismatch)}</p>' if contents.mismatch else ""
    found, facts = contents.found, contents.found.facts
    scored = f"{facts['images']} {contents.scored_as} of {facts['data']}"
    told = {
        "Detector": f"{facts['backbone']}, {facts['checkpoint']}",
        "Run": f"{contents.run} {contents.history.end}",
        "Scored": scored,
    }
    if not isinstance(found.scores, str):
        told["Photographs"] = f"{len(set(found.scores.photographs))}, from which these images come"
    if facts.get("rejected"):
        told["Left out"] = left_out(facts["rejected"], facts["images"])
    cards = _cards(found.report) if found.report else ""
    return f"<header>\n<h1>{plain(contents.title)}</h1>\n</header>\n" + section(
        "Summary", note, terms(told), cards
    )


def _cards(report: Report) -> str:
    row = report.rows[OVERALL]
    cards = []
    for name in _CARDS:
        value, ends = getattr(row, name), row.intervals.get(name)
        under = row.missing.get(name, "") if value is None else shown(name, value, ends).partition(" ")[2]
        cards.append(
            f'<div><div>{plain(FIGURES[name].title)}</div><div class="value">{shown(name, value)}</div>'
            f'<div class="interval">{plain(under)}</div></div>'
        )
    return "<h3>All images together</h3>\n" + grid(cards, "cards")


def _figures(report: Report) -> str:
    notes = "".join(f"<li>{plain(note)}</li>" for note in notes_of(report, str))
    tables = [table(one) for one in tables_of(report.rows, str)]
    about = f"<details open><summary>What they are</summary><ul>{notes}</ul></details>"
    return section("Figures by group", *tables, about)


def _mistakes(found: Sequence[Mistakes] | str) -> list[str]:
    if isinstance(found, str):
        return [lacking(found)]
    parts = []
    for one in found:
        kind, title = _CLASSES[one.label]
        if not one.total:
            parts.append(lacking(f"there are no {kind}"))
            continue
        parts.append(f"<h3>{title}: {one.wrong} of {one.total}</h3>")
        if one.worst:
            parts.append(grid(map(_thumbnail, one.worst), "thumbs"))
    return parts


def _thumbnail(one: Mistake) -> str:
    what = "real image" if one.label == 0 else "fake"
    if isinstance(one.picture, str):
        picture = f'<div class="none">{DASH} {plain(one.picture)}</div>'
    else:
        picture = image(one.picture, f"{what} {one.name}")
    group = f"<br>{plain(one.group)}" if one.group else ""
    score = f"<strong>{one.probability:.1%}</strong> fake, logit {one.logit:.2f}"
    return figure(picture, f"{score}<br>{plain(one.name)}{group}")


def _pictures(pictures: Sequence[Drawn]) -> str:
    return grid((figure(image(one.data, one.about), plain(one.about)) for one in pictures), "wide")
