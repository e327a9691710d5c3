"""Scores the validation sets after an epoch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from train.evaluation.metrics import Summary
from train.loader.loader import PairLoader
from train.loader.transfer import Batch
from train.loop.quarantine import Quarantine
from train.loop.trainee import Trainee


@dataclass(frozen=True, kw_only=True)
class Validated:
    """The results of a validation."""

    judged: Summary
    """By which epochs are compared: of one set, or the mean of all."""
    sets: Mapping[str, Summary]
    """By the name of the set."""


class Validation:
    """Scores the validation sets.

    Args:
        loaders: of clean pairs, by the name of the set; maybe none.
        best_on: the set by which epochs are compared; None: by the mean of all.
        trainee: the detector.
        quarantine: counts damaged pairs.
        stop: whether this rank was asked to end.
        leave: ends the run if its argument is true.
    """

    def __init__(
        self,
        loaders: Mapping[str, PairLoader],
        *,
        best_on: str | None,
        trainee: Trainee,
        quarantine: Quarantine,
        stop: Callable[[], bool],
        leave: Callable[[bool], None],
    ) -> None:
        self._loaders, self._best_on, self._trainee = loaders, best_on, trainee
        self._quarantine, self._stop, self._leave = quarantine, stop, leave

    def run(self, *, epoch: int, step: int) -> Validated | None:
        """Scores all sets on all ranks; None if there is none."""
        if not self._loaders:
            self._trainee.share_statistics()
            return None
        found: dict[str, Summary] = {}
        for name, loader in self._loaders.items():
            loader.set_epoch(0)  # the same order each time
            found[name] = self._trainee.validate(self._watched(loader, epoch, step))
        judged = found[self._best_on] if self._best_on else mean_of(list(found.values()))
        return Validated(judged=judged, sets=found)

    def _watched(self, batches: PairLoader, epoch: int, step: int) -> Iterator[Batch]:
        """Validation batches; all ranks count the damaged pairs of each, and end if one is asked to."""
        for batch in batches:
            mine = [len(batch.damaged), len(batch.keys), self._stop()]
            damaged, valid, stops = self._trainee.world.totals(mine)()
            self._leave(stops > 0)  # the steps' checkpoint is already saved
            self._quarantine.take(batch.damaged, damaged=damaged, valid=valid, epoch=epoch, step=step)
            yield batch


def mean_of(summaries: list[Summary]) -> Summary:
    """The mean of each metric over the sets that have it, each set alike; the counts add up."""
    if len(summaries) == 1:
        return summaries[0]
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(Summary)):
        values = [value for one in summaries if (value := getattr(one, name)) is not None]
        total = sum(values)
        found[name] = total if name.startswith("n_") else total / len(values) if values else None
    return Summary(**found)
