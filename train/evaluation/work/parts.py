"""The parts of an evaluation: published one by one, so that a killed evaluation goes on where it was.

A part is a run of successive images. Ranks share nothing but the output: rank r of n scores the parts whose
number is r modulo n, and takes those that are there already, whoever wrote them.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from pack.storage import Store
from recon.base.errors import UserError
from train.evaluation.inputs.source import ImageSource, Lost

PART = 512
"""Outcomes of a part, about: parts end where blocks end. Killed, a run repeats at most this many a rank."""

Outcome = float | Lost
"""The logit of an image or of one of its views, or why there is none."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Successive images of a source."""

    number: int
    blocks: tuple[tuple[int, int], ...]
    """First image and number of images of each block."""
    views: int = 1
    """Outcomes of each image."""

    @property
    def first(self) -> int:
        """Number of its first outcome: that of its first image in the source, times the number of views."""
        return self.blocks[0][0] * self.views

    @property
    def count(self) -> int:
        """Number of its outcomes."""
        return sum(count for _, count in self.blocks) * self.views

    @property
    def name(self) -> str:
        """Of the object that holds its outcomes."""
        return f"scores.part-{self.number:06}.json"


def parts_of(source: ImageSource, views: int = 1) -> list[Part]:
    """Cuts a source into parts of `PART` outcomes or a little more; a block is never cut.

    Args:
        source: the images.
        views: outcomes of each image.
    """
    parts: list[Part] = []
    blocks: list[tuple[int, int]] = []
    for first, count in source.places():
        blocks.append((first, count))
        end = first + count
        if (end - blocks[0][0]) * views >= PART or end == source.total:
            parts.append(Part(number=len(parts), blocks=tuple(blocks), views=views))
            blocks = []
    return parts


def job_of(model: nn.Module, source: ImageSource, **options: Any) -> str:
    """A hash of all that decides the scores: the weights, the names of the images, the options.

    The names are relative: the options hold the place of the data.
    """
    told = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        told.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for one in source.listed:
        told.update(one.name.encode("utf-8", "surrogateescape") + b"\0")
    return told.hexdigest()


def publish_part(store: Store, part: Part, job: str, outcomes: Sequence[Outcome]) -> None:
    """Publishes the outcomes of a part, in their order."""
    rows = [asdict(one) if isinstance(one, Lost) else one for one in outcomes]
    with store.publish(part.name) as file:
        file.write(json.dumps({"job": job, "outcomes": rows}).encode())


def published_part(store: Store, part: Part, job: str) -> list[Outcome] | None:
    """The outcomes of a part that an earlier run has published; None if there are none of this job."""
    if not store.exists(part.name):
        return None
    try:
        found = json.loads(store.read(part.name))
        rows = found["outcomes"] if found["job"] == job else []
        outcomes = [Lost(**one) if isinstance(one, dict) else float(one) for one in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{store.url}/{part.name} can't be read ({error}); remove it") from error
    if len(outcomes) != part.count:
        _LOG.info("%s/%s is of another evaluation, and will be replaced", store.url, part.name)
        return None
    return outcomes


def remove_parts(store: Store, parts: Sequence[Part]) -> None:
    """Removes the published parts, once the evaluation is whole."""
    for part in parts:
        store.remove(part.name)


def share(parts: Sequence[Part], rank: int, size: int) -> Iterator[Part]:
    """The parts of a rank."""
    return (part for part in parts if part.number % size == rank)
