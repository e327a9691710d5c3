"""The images that lie furthest on the wrong side of the threshold, read again from the evaluation's data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from recon.base.cpus import available_cpus
from recon.base.errors import UserError
from recon.image.codec import Picture, Pixels, encode
from recon.image.drawing import fitted, resize
from train.evaluation.evaluate import INPUTS, EvaluateConfig, source_of
from train.evaluation.figures.scores import Scores
from train.evaluation.look import WHOLE, Look, parse_look
from train.reports.inputs.evaluated import Evaluated

SIDE = 256
"""Longer side of a thumbnail in pixels; smaller images stay as they are."""

Shown = bytes | str
"""A PNG file, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image with a wrong verdict."""

    name: str
    group: str
    """Label group; empty for a real image that counts in all groups."""
    label: int
    """0 real, 1 fake."""
    logit: float
    probability: float
    """Of fake."""
    picture: Shown
    """What was scored, or all of an image of which several crops were; scaled down."""


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """The wrong verdicts on a class."""

    label: int
    total: int
    """Images of the class."""
    wrong: int
    """Those with a wrong verdict."""
    worst: Sequence[Mistake]
    """The worst of these, first."""


def find_mistakes(found: Evaluated, scores: Scores, count: int) -> list[Mistakes]:
    """The mistakes of both classes, and pictures of the worst.

    Args:
        found: the evaluation.
        scores: its scores.
        count: mistakes of each class to show, at most.
    """
    decision = found.decision
    excess_N = np.where(scores.labels_N == 1, -1.0, 1.0) * (scores.logits_N - decision.threshold)
    # An image counts as fake above the threshold: a fake on it is a mistake, a real image is none.
    wrong_N = np.where(scores.labels_N == 1, excess_N >= 0, excess_N > 0)
    chosen = {label: _worst(excess_N, wrong_N & (scores.labels_N == label), count) for label in (0, 1)}
    keys = [(scores.names[place], scores.groups[place]) for places in chosen.values() for place in places]
    pictures = _pictures(found.facts, keys)

    def mistake(place: int) -> Mistake:
        name, group, logit = scores.names[place], scores.groups[place], float(scores.logits_N[place])
        return Mistake(
            name=name,
            group=group,
            label=int(scores.labels_N[place]),
            logit=logit,
            probability=float(expit(logit / decision.temperature)),
            picture=pictures[name, group],
        )

    return [
        Mistakes(
            label=label,
            total=int((scores.labels_N == label).sum()),
            wrong=int((wrong_N & (scores.labels_N == label)).sum()),
            worst=[mistake(place) for place in places],
        )
        for label, places in chosen.items()
    ]


def _worst(excess_N: Any, wrong_N: Any, count: int) -> list[int]:
    places = np.flatnonzero(wrong_N)
    return list(places[np.argsort(-excess_N[places], kind="stable")][:count].tolist())


def _pictures(facts: Mapping[str, Any], keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Shown]:
    """The picture of each image, by name and group; the evaluation's data may be gone by now."""
    lacking: Shown = "it was not found in the data"
    try:
        found = dict(_read(facts, set(keys))) if keys else {}
    except UserError as error:
        found, lacking = {}, f"the data can't be read: {error}"
    return {key: found.get(key, lacking) for key in keys}


def _read(facts: Mapping[str, Any], keys: set[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Shown]]:
    from train.evaluation.images import Ready, ready  # imports torch, which takes seconds
    from train.evaluation.inputs.source import Lost

    kept = facts.get("inputs", {})
    options = {name: kept[name] for name in INPUTS if name in kept}
    config = EvaluateConfig(checkpoint=facts["checkpoint"], data=facts["data"], **options)
    source = source_of(config)
    listed = ((one.name, one.group) for one in source.listed)
    places = {place: key for place, key in enumerate(listed) if key in keys}
    blocks = source.places_of(places.keys())
    how = Ready(max_pixels=config.max_pixels, look=_look(facts), threads=available_cpus())
    for place, pixels in ready(source, blocks, how, places):
        yield places[place], pixels.cause if isinstance(pixels, Lost) else _thumbnail(pixels)


def _look(facts: Mapping[str, Any]) -> Look:
    """What is shown of an image: what was scored, or all of it where several crops were."""
    crop = facts.get("crop")
    # Evaluations of earlier versions know no other view.
    look = parse_look(facts.get("view") or ("whole" if crop is None else f"crop:{crop}"))
    return WHOLE if look.crops in ("five", "ten") else look


def _thumbnail(pixels: Pixels) -> bytes:
    if max(pixels.shape[:2]) > SIDE:
        rows, columns = pixels.shape[:2]
        pixels = resize(pixels, *fitted(rows, columns, SIDE))
    return encode(pixels, Picture(pixels=pixels, codec="png"), "png")
