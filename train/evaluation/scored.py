"""Scores a source part by part: what an earlier run has published is taken, the rest is scored."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from pack.storage import Store
from recon.base.cpus import available_cpus
from recon.base.device import find_device
from recon.base.errors import UserError
from recon.base.memory import keep_freed_memory
from recon.base.progress import Progress
from train.evaluation.images import Ready, View, ready
from train.evaluation.inputs.source import ImageSource, Lost
from train.evaluation.look import Look
from train.evaluation.scoring import Waiting, score
from train.evaluation.work.parts import (
    Outcome,
    Part,
    job_of,
    parts_of,
    publish_part,
    published_part,
    remove_parts,
    share,
)
from train.evaluation.work.ranks import Ranks
from train.model.build import normalization_of
from train.model.normalize import find_normalization
from train.model.published.load import DetectorFile

if TYPE_CHECKING:
    from train.evaluation.evaluate import EvaluateConfig


def scored_parts(
    config: "EvaluateConfig",
    detector: DetectorFile,
    look: Look,
    source: ImageSource,
    store: Store,
    ranks: Ranks,
    views: Sequence[View] = (),
) -> tuple[dict[str, Any], list[Outcome]]:
    """Scores every image of a source, on all ranks together.

    Args:
        config: the options.
        detector: the model, as its file has it.
        look: what it looks at in each image.
        source: the images, the same on all ranks.
        store: where the parts are published.
        ranks: all of them call this together.
        views: what is made of each image and scored; the first is the image as it is. Empty: only that.

    Returns:
        Facts about the detector and the images; and the outcome of each image, in the order of the source;
        of views, those of the first image come first, in the order of the views.

    Raises:
        UserError: see `train.evaluation.evaluate.evaluate`.
    """
    keep_freed_memory()
    device = find_device(config.device, ranks.local_rank)
    model, normalization = detector.build().to(device), normalization_of(detector.content)
    how = Ready(
        max_pixels=config.max_pixels,
        look=look,
        min_side=find_normalization(normalization).min_side,
        threads=config.threads or max(1, available_cpus() // ranks.local_size),
        views=views,
    )
    options = _decisive(config, look, device.type, normalization, views)
    each, unit = (len(views), "views") if views else (1, "images")
    mine = list(share(parts_of(source, each), ranks.rank, ranks.size))
    with Progress(total=sum(part.count for part in mine), unit=unit, what="evaluate") as shown:
        job = job_of(model, source, **options)
        parts = _Parts(source, store, job, config.max_rejected, shown)
        images = parts.waiting(parts.without_published(mine), how)
        scored = score(
            model, images, batch_size=config.batch_size, device=device, normalization=normalization
        )
        for places, logits_B in scored:
            parts.add(zip(places, logits_B.tolist(), strict=True))
    outcomes = dict(one for rank in ranks.gather_objects(parts.outcomes) for one in rank.items())
    return _facts(config, detector, look), [outcomes[number] for number in range(source.total * each)]


def _facts(config: "EvaluateConfig", detector: DetectorFile, look: Look) -> dict[str, Any]:
    return {
        "checkpoint": config.checkpoint,
        "checkpoint_sha256": detector.sha256,
        "backbone": detector.model["backbone"],
        "data": config.data,
        "crop": look.side if look.crops == "crop" and look.size is None else None,
        "view": str(look),
    }


def _decisive(
    config: "EvaluateConfig", look: Look, device: str, normalization: str, views: Sequence[View]
) -> dict[str, object]:
    """The options on which scores depend; of views and batches, only where there are any."""
    options: dict[str, object] = {
        "data": config.data,
        "view": str(look),
        "max_pixels": config.max_pixels,
        "normalization": normalization,
        "device": device,
    }
    if device != "cpu":
        options["batch_size"] = config.batch_size
    if views:
        options["views"] = [view.text for view in views]
    return options


class _Parts:
    """Collects outcomes, and publishes each part that is whole.

    Args:
        source: the images.
        store: where parts are published.
        job: a hash of all that decides the scores.
        limit: share of the images that may be without a score.
        shown: the progress.
    """

    def __init__(self, source: ImageSource, store: Store, job: str, limit: float, shown: Progress) -> None:
        self.outcomes: dict[int, Outcome] = {}
        """By number: the place in the source, times the number of views, and the number of the view."""
        self._source, self._store, self._job, self._limit, self._shown = source, store, job, limit, shown
        self._todo: list[Part] = []
        self._missing: list[int] = []  # outcomes of each part that are still to come
        self._published: list[Part] = []
        self._lost = 0

    def without_published(self, parts: Iterable[Part]) -> list[Part]:
        """Takes the outcomes that an earlier run has published, and returns the other parts."""
        for part in parts:
            found = published_part(self._store, part, self._job)
            if found is None:
                self._todo.append(part)
                continue
            self._published.append(part)
            self.outcomes.update(enumerate(found, part.first))
            self._shown.skip(part.count)
            self._count_lost(enumerate(found, part.first), part.views)
        self._missing = [part.count for part in self._todo]
        return self._todo

    def waiting(self, parts: list[Part], how: Ready) -> Iterator[Waiting]:
        """The images of some parts for the model; those that it can't get have their outcome at once."""
        blocks = (block for part in parts for block in part.blocks)
        for place, found in ready(self._source, blocks, how):
            if isinstance(found, Lost):
                self.add([(place, found)])
            else:
                yield Waiting(index=place, pixels=found, part=self._number(place))

    def add(self, outcomes: Iterable[tuple[int, Outcome]]) -> None:
        """Takes outcomes by number.

        Raises:
            UserError: too many images have no score, or a logit is not finite.
        """
        for place, outcome in outcomes:
            self.outcomes[place] = outcome
            number = self._number(place)
            self._missing[number] -= 1
            self._shown.update()
            self._count_lost([(place, outcome)], self._todo[number].views)
            if not self._missing[number]:
                self._publish(self._todo[number])

    def _number(self, place: int) -> int:
        return bisect_right(self._todo, place, key=lambda part: part.first) - 1

    def _publish(self, part: Part) -> None:
        found = [self.outcomes[place] for place in range(part.first, part.first + part.count)]
        logits = [one for one in found if not isinstance(one, Lost)]
        if bad := sum(not isfinite(logit) for logit in logits):
            raise UserError(f"{bad} of {len(logits)} logits are not finite; the model has diverged")
        publish_part(self._store, part, self._job, found)
        self._published.append(part)

    def _lacks(self, part: Part) -> bool:
        return any(isinstance(self.outcomes[part.first + row], Lost) for row in range(part.count))

    def _count_lost(self, outcomes: Iterable[tuple[int, Outcome]], views: int) -> None:
        # Of several views only the first counts, the image as it is: a small one has no view of a quarter.
        found = [one for place, one in outcomes if place % views == 0 and isinstance(one, Lost)]
        self._lost += len(found)
        total = self._source.total
        if found and self._lost > self._limit * total:
            # A part that lacks images would be taken by the next run, which should look for them again.
            remove_parts(self._store, [part for part in self._published if self._lacks(part)])
            raise UserError(
                f"{self._lost} of {total} images can't be scored, more than max_rejected={self._limit:g} "
                f"allows; the last is {found[-1].kind}: {found[-1].cause}"
            )
