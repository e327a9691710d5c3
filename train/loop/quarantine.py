"""The damaged pairs of a run: each is listed once and counted by its cause; too many of them end the run.

A pair counts as damaged if its stored bytes are wrong. Its place in the batch is masked; the rest of the
step does not change. A failure of storage to deliver bytes is an error elsewhere, not a damaged pair.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pack.dataset.pairs import DamagedPair
from recon.base.errors import UserError
from recon.base.progress import counted
from train.world.world import World

COUNTED_FROM = 1000
"""The share of damaged pairs is compared with its limit after this many pairs."""


class Quarantine:
    """Collects the damaged pairs in the batches of all ranks.

    Args:
        world: all its ranks call `take` together.
        limit: share of the pairs that may be damaged.
        write: adds a line to quarantine.jsonl; called on rank 0 only.
    """

    def __init__(self, world: World, *, limit: float, write: Callable[[dict[str, Any]], None]) -> None:
        self.world, self.limit, self.write = world, limit, write
        self.valid = self.damaged = 0
        self.causes: Counter[str] = Counter()
        """Number of damaged pairs by cause, each pair counted once; on rank 0 only."""
        self._listed: dict[tuple[str, str], str] = {}  # (url, key) to cause

    @property
    def pairs(self) -> int:
        """Number of damaged pairs found so far, each counted once; on rank 0 only."""
        return sum(self.causes.values())

    def take(self, mine: Sequence[DamagedPair], *, damaged: int, valid: int, epoch: int, step: int) -> None:
        """Counts a step of training or validation.

        Args:
            mine: the damaged pairs of this rank's batch.
            damaged: number of damaged pairs of the step on all ranks.
            valid: number of intact pairs of the step on all ranks.
            epoch: for the line in quarantine.jsonl.
            step: for the line in quarantine.jsonl.

        Raises:
            UserError: too many pairs are damaged; raised on all ranks.
        """
        self.valid, self.damaged = self.valid + valid, self.damaged + damaged
        if damaged:  # the same number on all ranks, so all of them gather or none
            found = [pair for rank in self.world.gather_objects(list(mine)) for pair in rank]
            if self.world.is_first:
                self._list(found, epoch=epoch, step=step)
        if self._is_too_much():
            self.world.from_first(self._refuse)

    def _list(self, found: Iterable[DamagedPair], *, epoch: int, step: int) -> None:
        for pair in sorted(found, key=lambda pair: (pair.key, pair.url)):
            if (pair.url, pair.key) in self._listed:
                continue
            self._listed[pair.url, pair.key] = pair.cause
            self.causes[pair.cause] += 1
            self.write({"epoch": epoch, "step": step, "url": pair.url, "key": pair.key, "cause": pair.cause})

    def _is_too_much(self) -> bool:
        seen = self.valid + self.damaged
        # Without one intact pair, or with a limit of 0, there is no reason to wait for COUNTED_FROM pairs.
        return self.damaged > 0 and (
            self.valid == 0 or ((seen >= COUNTED_FROM or not self.limit) and self.damaged > self.limit * seen)
        )

    def _refuse(self) -> bytes:
        causes = ", ".join(f"{cause}: {count}" for cause, count in self.causes.most_common())
        shards = Counter(url for url, _ in self._listed)
        worst = "; most of them in {} ({})".format(*shards.most_common(1)[0]) if shards else ""
        share = f"{self.damaged} of {counted(self.valid + self.damaged, 'pair')} seen"
        told = (
            f"not one of {counted(self.damaged, 'pair')} so far is whole"
            if not self.valid
            else f"{share} were damaged, more than data.max_damaged={self.limit:g} allows"
        )
        raise UserError(
            f"{told} ({causes}){worst}; run python -m pack.verify on the dataset and restore that shard"
            + (", or raise data.max_damaged" if self.valid else "")
        )

    def state_dict(self) -> dict[str, Any]:
        """The counters, for a checkpoint."""
        return {"valid": self.valid, "damaged": self.damaged, "causes": dict(self.causes)}

    def load_state_dict(self, state: dict[str, Any], lines: Iterable[dict[str, Any]]) -> None:
        """Restores the counters.

        Args:
            state: what `state_dict` returned.
            lines: the lines that quarantine.jsonl had at that time.
        """
        self.valid, self.damaged = state["valid"], state["damaged"]
        self.causes = Counter(state["causes"])
        self._listed = {(line["url"], line["key"]): line["cause"] for line in lines}
