"""What an epoch takes from each dataset of a mixture.

A weight of 2.5 is two whole copies and half of the dataset. The half is the next stretch of
an endless line of *cycles*, each cycle being all the dataset's blocks in an order of its own:
epoch e takes pairs [eK, (e+1)K) of that line, so that after any number of epochs no pair was
met more than once oftener than another. A stretch may begin or end in the midst of a block.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from train.order.counter import permutation, stream_key

_MOST = 1000  # copies of a dataset in one epoch; more would fill the memory with nothing but places


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset of a mixture.

    Raises:
        UserError: the weight is not a finite number above 0.
    """

    shard_pairs: Sequence[int] | NDArray[np.int64]
    """Pairs (after a filter: selected pairs) of each shard, in the manifest's order; 0 is allowed."""
    weight: float = 1.0
    """How often an epoch sees each pair: whole copies and a fraction."""
    name: str = "the dataset"
    """What errors call it: its URL, say."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UserError(f"weight={self.weight} of {self.name}, expected a finite number above 0")
        if self.weight > _MOST:
            raise UserError(
                f"weight={self.weight} of {self.name}, expected at most {_MOST}: how often an epoch sees "
                "each pair; only the weights' ratios matter for the mixture, so divide all of them"
            )

    @cached_property
    def pairs(self) -> int:
        """Pairs of the dataset."""
        return int(np.sum(np.asarray(self.shard_pairs, np.int64)))

    @property
    def copies(self) -> int:
        """Whole copies that every epoch holds."""
        return math.floor(self.weight)

    @property
    def stretch(self) -> int:
        """Pairs that an epoch takes beside the whole copies; at least one pair comes in all."""
        rounded = round((self.weight - self.copies) * self.pairs)
        return rounded if self.copies else max(rounded, min(1, self.pairs))

    @property
    def epoch_pairs(self) -> int:
        """Pairs of an epoch, copies included; the same for all epochs."""
        return self.copies * self.pairs + self.stretch


@dataclass(frozen=True, kw_only=True)
class Part:
    """Successive pieces of an epoch: blocks of one copy of one source, whole or cut."""

    source: int
    copy: int
    """Tells the visits of a pair within the epoch apart, from 0: the whole copies come first."""
    blocks: NDArray[np.int32]
    """Number within the source of the block that each piece is of."""
    counts: NDArray[np.int32]
    """Pairs of each piece."""
    skip: int = 0
    """Pairs that the first piece leaves out at its block's start."""


class Blocks:
    """The blocks of one source, numbered through its shards.

    Args:
        source: what is cut.
        number: of the source within the mixture.
        seed: of the run; draws the cycles.
        block: pairs of a block; the last of a shard may be shorter.
    """

    def __init__(self, source: Source, *, number: int, seed: int, block: int) -> None:
        self.source, self.number, self.seed, self.block = source, number, seed, block
        shard_pairs = np.asarray(source.shard_pairs, np.int64)
        in_shard = -(-shard_pairs // block)
        self._shard_ends = np.cumsum(in_shard)
        """Number of the first block after each shard."""
        self._shard_starts = self._shard_ends - in_shard
        self._counts = np.full(int(in_shard.sum()), block, np.int32)
        held = in_shard > 0
        self._counts[self._shard_ends[held] - 1] -= (in_shard * block - shard_pairs)[held].astype(np.int32)

    def place(self, number: int) -> tuple[int, int]:
        """(shard, first pair within it) of a block."""
        shard = int(np.searchsorted(self._shard_ends, number, side="right"))  # passes empty shards by
        return shard, (number - int(self._shard_starts[shard])) * self.block

    def parts(self, epoch: int) -> Iterator[Part]:
        """What an epoch takes: the whole copies, then the stretch, in at most two cycles."""
        every = np.arange(len(self._counts), dtype=np.int32)
        for copy in range(self.source.copies):
            yield Part(source=self.number, copy=copy, blocks=every, counts=self._counts)
        copy, taken = self.source.copies, self.source.stretch
        first = epoch * taken
        while taken:
            cycle, begin = divmod(first, self.source.pairs)
            count = min(taken, self.source.pairs - begin)
            yield self._cut_cycle(cycle, begin, begin + count, copy)
            copy, first, taken = copy + 1, first + count, taken - count

    def _cut_cycle(self, cycle: int, begin: int, end: int, copy: int) -> Part:
        """Pairs begin..end-1 of a cycle."""
        key = stream_key(self.seed, cycle, f"cycle of source {self.number}")
        drawn = permutation(key, len(self._counts)).astype(np.int32)
        ends = np.cumsum(self._counts[drawn], dtype=np.int64)
        low, last = np.searchsorted(ends, [begin, end - 1], side="right")
        blocks = drawn[low : last + 1].copy()
        counts = self._counts[blocks]
        skip = begin - int(ends[low] - counts[0])
        counts[-1] -= ends[last] - end
        counts[0] -= skip
        return Part(source=self.number, copy=copy, blocks=blocks, counts=counts, skip=skip)
