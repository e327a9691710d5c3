"""The files of an evaluation: scores, metrics by label group, what was left out."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pack.storage import Store
from train.evaluation.inputs.source import Lost
from train.evaluation.metrics import OVERALL, Summary, by_group, markdown_table

SCORES_COLUMNS = ("name", "group", "label", "logit", "photograph")
"""The columns of scores.csv; the group is empty for a real image that counts in all groups, the label where
it is unknown. Images of one photograph (a real one and its fakes) share the last column."""


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


def summarize_scores(scores: Sequence[ScoredImage]) -> dict[str, Summary]:
    """The metrics by label group; those of all images come last, with the key `metrics.OVERALL`.

    Images without a label are left out; if none has one, there are no metrics.
    """
    known = [one for one in scores if one.label is not None]
    if not known:
        return {}
    labels_N = np.array([one.label for one in known])
    logits_N = np.array([one.logit for one in known])
    return by_group([one.group for one in known], labels_N, logits_N)


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


def write_results(
    store: Store,
    scores: list[ScoredImage],
    lost: list[tuple[str, Lost]],
    rows: dict[str, Summary],
    facts: dict[str, Any],
) -> None:
    """Writes the files of an evaluation; metrics.json comes last, so that all are there if it is.

    Args:
        store: where.
        scores: of the images that have one.
        lost: name and cause of the others.
        rows: the metrics by label group.
        facts: what metrics.json says beside them.
    """
    groups = {name: asdict(summary) for name, summary in rows.items()}
    overall = groups.pop(OVERALL, None)
    rejected = [{"name": name, "kind": one.kind, "cause": one.cause} for name, one in lost]
    content = {
        "scores.csv": _csv(scores),
        "rejected.jsonl": "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rejected),
        "table.md": _table(rows, scores, facts["rejected"]),
        "metrics.json": json.dumps(facts | {"overall": overall, "groups": groups}, indent=2) + "\n",
    }
    for name, text in content.items():
        if text:
            with store.publish(name) as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        else:
            store.remove(name)  # of an earlier evaluation


def _table(rows: dict[str, Summary], scores: list[ScoredImage], rejected: dict[str, int]) -> str:
    if rows:
        table = markdown_table(rows)
    else:
        fakes = sum(one.logit > 0 for one in scores)
        table = f"No image has a label; the logit of {fakes} of {len(scores)} is above 0, which means fake.\n"
    return table + (f"\n{left_out(rejected, len(scores)).capitalize()}.\n" if rejected else "")


def _csv(scores: list[ScoredImage]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCORES_COLUMNS)
    # float32 has about 7 significant decimal digits.
    writer.writerows(
        (one.name, one.group, "" if one.label is None else one.label, f"{one.logit:.7g}", one.photograph)
        for one in scores
    )
    return text.getvalue()
