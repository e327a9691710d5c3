"""The files of an evaluation: scores, metrics by label group, what was left out."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pack.storage import Store
from train.evaluation.figures.bootstrap import Bootstrap
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.scores import FILE, Scores, encoded, scores_bytes
from train.evaluation.figures.table import Report, report_of
from train.evaluation.inputs.source import Listed, Lost

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScoredImage:
    """An image's score."""

    name: str
    """Path relative to the source, or the pair's key with ``.real``, ``.fake``, ``.fake2``, ..."""
    group: str
    """Label group; empty for a real image that counts in all groups."""
    label: int | None
    """0 real, 1 fake, None unknown."""
    logit: float
    """Above 0 for fake."""
    photograph: str
    """Images that share it show the same photograph."""


def parted(
    listed: Sequence[Listed], outcomes: Sequence[float | Lost]
) -> tuple[list[ScoredImage], list[tuple[str, Lost]]]:
    """The images that have a score; and name and cause of the others."""
    known = list(zip(listed, outcomes, strict=True))
    scored = [
        ScoredImage(name=one.name, group=one.group, label=one.label, logit=found, photograph=one.photograph)
        for one, found in known
        if not isinstance(found, Lost)
    ]
    return scored, [(one.name, found) for one, found in known if isinstance(found, Lost)]


def report_on(
    scored: Sequence[ScoredImage], decision: Decision, bootstrap: Bootstrap | None
) -> Report | None:
    """The figures by label group, for the images that have a label; None if none has one.

    Raises:
        UserError: a logit is not finite.
    """
    known = [one for one in scored if one.label is not None]
    if not known:
        return None
    scores = Scores(
        names=[one.name for one in known],
        groups=[one.group for one in known],
        photographs=[one.photograph for one in known],
        labels_N=np.array([one.label for one in known]),
        logits_N=np.array([one.logit for one in known], dtype=np.float64),
    )
    return report_of(scores, decision, bootstrap)


def too_many_lost(lost: list[tuple[str, Lost]], total: int, limit: float) -> str | None:
    """The complaint if none of the images has a score, or more than the share `limit` of them have none."""
    if not lost or (len(lost) < total and len(lost) <= limit * total):
        return None
    allowed = f", more than max_rejected={limit:g} allows" if len(lost) < total else ""
    name, first = lost[0]
    return f"{len(lost)} of {total} images can't be scored{allowed}; the first is {name}: {first.cause}"


def left_out(rejected: dict[str, int], scored: int) -> str:
    """How many images were scored, and why others were not, in words."""
    lost = sum(rejected.values())
    if not lost:
        return f"scored all {scored} images"
    causes = ", ".join(f"{count} {kind}" for kind, count in sorted(rejected.items(), key=lambda one: -one[1]))
    return f"scored {scored} of {scored + lost} images; left out {lost} ({causes}), listed in rejected.jsonl"


def tell_replaced(store: Store, facts: dict[str, Any], decision: Decision) -> None:
    """Logs which of the options of an evaluation that lies there already were others."""
    if not store.exists("metrics.json"):
        return
    try:
        before = _decisive(json.loads(store.read("metrics.json")))
    except (ValueError, TypeError, KeyError, AttributeError):
        before = {}  # it is damaged, so nobody can have read it
    now = _decisive(facts | {"decision": asdict(decision)})
    changed = [f"{name}={before[name]}" for name in now if name in before and before[name] != now[name]]
    if changed:
        _LOG.warning("%s held an evaluation with %s, which is replaced", store.url, ", ".join(changed))


def _decisive(facts: dict[str, Any]) -> dict[str, Any]:
    """What the figures of an evaluation depend on, by the names of the options."""
    found = {name: facts[name] for name in ("checkpoint_sha256", "data", "view") if name in facts}
    return {**found, "threshold": facts["decision"]["threshold"], **facts.get("inputs", {})}


def write_results(
    store: Store,
    scores: list[ScoredImage],
    lost: list[tuple[str, Lost]],
    found: Report | Decision,
    table: str,
    facts: dict[str, Any],
) -> None:
    """Writes the files of an evaluation; metrics.json comes last, so that all are there if it is.

    Args:
        store: where.
        scores: of the images that have one.
        lost: name and cause of the others.
        found: the figures, or what decides where no image has a label.
        table: see `table_of`.
        facts: what metrics.json says beside them.
    """
    if isinstance(found, Report):
        figures = found.values()
    else:
        figures = {"overall": None, "groups": {}, "decision": asdict(found)}
    rejected = [{"name": name, "kind": one.kind, "cause": one.cause} for name, one in lost]
    content = {
        FILE: scores_bytes(map(_row, scores)),
        "rejected.jsonl": encoded("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rejected)),
        "table.md": encoded(table),
        "metrics.json": encoded(json.dumps(facts | figures, indent=2) + "\n"),
    }
    write_files(store, content)


def write_files(store: Store, content: Mapping[str, bytes]) -> None:
    """Publishes files in their order; an empty one is removed, as it may be that of an earlier evaluation."""
    for name, data in content.items():
        if data:
            with store.publish(name) as file:
                file.write(data)
        else:
            store.remove(name)


def table_of(found: Report | Decision, scores: list[ScoredImage], rejected: dict[str, int]) -> str:
    """The figures as a table in Markdown, and what was left out, by cause."""
    if isinstance(found, Report):
        table = found.markdown()
    else:
        fakes = sum(one.logit > found.threshold for one in scores)
        table = (
            f"No image has a label; {fakes} of {len(scores)} count as fake: their probability is above "
            f"{found.probability:.4g} ({found.origin}).\n"
        )
    return table + (f"\n{left_out(rejected, len(scores)).capitalize()}.\n" if rejected else "")


def _row(one: ScoredImage) -> tuple[object, ...]:
    return one.name, one.group, "" if one.label is None else one.label, one.logit, one.photograph
