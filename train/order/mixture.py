"""What an epoch takes from each dataset of a mixture.

A weight of 2.5 is two whole copies and half of the dataset. The half is the next *stretch* of an endless
row of *cycles*. Each cycle is all the dataset's blocks, in an order of its own. With a stretch of K pairs,
epoch e takes pairs [eK, (e+1)K) of that row. So after any number of epochs, the visits of two pairs differ
by one at most. A stretch may begin or end in the middle of a block.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from train.order.counter import permutation, stream_key

_MOST = 1000  # copies of a dataset in one epoch: the order keeps 8 bytes for each piece of each copy


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
        """Pairs that an epoch takes besides the whole copies.

        At least 1 where there is no whole copy: a dataset that is named takes part, however small its weight.
        """
        rounded = round((self.weight - self.copies) * self.pairs)
        return rounded if self.copies else max(rounded, min(1, self.pairs))

    @property
    def epoch_pairs(self) -> int:
        """Pairs of an epoch, copies included; the same for all epochs."""
        return self.copies * self.pairs + self.stretch


@dataclass(frozen=True, kw_only=True)
class Part:
    """The pieces that an epoch takes from one copy of one source, before they are permuted."""

    source: int
    copy: int
    """Tells the visits of a pair within the epoch apart, from 0: the whole copies come first."""
    blocks: NDArray[np.int32]
    """For each piece, the number of its block within the source."""
    counts: NDArray[np.int32]
    """Pairs of each piece."""
    skip: int = 0
    """Pairs that the first piece leaves out at its block's start."""


class Blocks:
    """The blocks of one source, numbered through its shards.

    Args:
        source: the dataset.
        number: of the source within the mixture.
        seed: of the training run; draws the cycles.
        block: pairs of a block; the last of a shard may be shorter.
    """

    def __init__(self, source: Source, *, number: int, seed: int, block: int) -> None:
        self.source, self.number, self.seed, self.block = source, number, seed, block
        shard_pairs = np.asarray(source.shard_pairs, np.int64)
        in_shard = -(-shard_pairs // block)  # no block crosses a shard: it is read in one request
        self._shard_ends = np.cumsum(in_shard)
        """Number of the first block after each shard."""
        self._shard_starts = self._shard_ends - in_shard
        self._counts = np.full(int(in_shard.sum()), block, np.int32)
        held = in_shard > 0
        self._counts[self._shard_ends[held] - 1] -= (in_shard * block - shard_pairs)[held].astype(np.int32)

    def locate(self, number: int) -> tuple[int, int]:
        """(shard, first pair within it) of a block."""
        # "right" passes over shards without a pair, which end where the shard before them ends.
        shard = int(np.searchsorted(self._shard_ends, number, side="right"))
        return shard, (number - int(self._shard_starts[shard])) * self.block

    def parts(self, epoch: int) -> Iterator[Part]:
        """What an epoch takes: the whole copies, then the stretch, in at most two cycles."""
        every = np.arange(len(self._counts), dtype=np.int32)
        for copy in range(self.source.copies):
            yield Part(source=self.number, copy=copy, blocks=every, counts=self._counts)
        copy, taken = self.source.copies, self.source.stretch
        first = epoch * taken
        while taken:  # the stretch goes over into the next cycle where this one ends
            cycle, begin = divmod(first, self.source.pairs)
            count = min(taken, self.source.pairs - begin)
            yield self._cut_cycle(cycle, begin, begin + count, copy)
            copy, first, taken = copy + 1, first + count, taken - count

    def _cut_cycle(self, cycle: int, begin: int, end: int, copy: int) -> Part:
        """Pairs begin..end-1 of a cycle."""
        # Drawn by the cycle, not by the epoch: two epochs that share a cycle must see it in one order.
        key = stream_key(self.seed, cycle, f"cycle of source {self.number}")
        drawn = permutation(key, len(self._counts)).astype(np.int32)
        ends = np.cumsum(self._counts[drawn], dtype=np.int64)
        low, last = np.searchsorted(ends, [begin, end - 1], side="right")
        blocks = drawn[low : last + 1].copy()  # a view would keep the whole cycle in memory
        counts = self._counts[blocks]
        skip = begin - int(ends[low] - counts[0])
        counts[-1] -= ends[last] - end
        counts[0] -= skip
        return Part(source=self.number, copy=copy, blocks=blocks, counts=counts, skip=skip)
