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
from train.order.counter import stream_key
from train.order.line import Line, Part

_SORTED = 1 << 18  # blocks of a cycle sorted at once, in 10 MB; or a sixteenth, as each time scans all
_MOST = 1000  # copies of a dataset in one epoch: the order hashes each piece of each copy


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset of a mixture.

    Raises:
        UserError: the weight is not a finite number above 0.
    """

    shard_pairs: Sequence[int] | NDArray[np.int64] | NDArray[np.int32]
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
        return int(np.sum(np.asarray(self.shard_pairs), dtype=np.int64))

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
        shard_pairs = np.asarray(source.shard_pairs, np.int32)
        in_shard = -(-shard_pairs // block)  # no block crosses a shard: it is read in one request
        self._shard_starts = np.zeros(len(in_shard) + 1, np.int32)
        """Number of the first block of each shard, and of all blocks."""
        np.cumsum(in_shard, out=self._shard_starts[1:])
        in_shard *= block
        in_shard -= shard_pairs
        is_short = in_shard > 0
        self._short = self._shard_starts[1:][is_short] - 1
        """Those blocks that have fewer than `block` pairs: the last of their shards, rising."""
        self._lacking = in_shard[is_short]

    def locate(self, number: int) -> tuple[int, int]:
        """(shard, first pair within it) of a block."""
        # "right" passes over shards without a pair, which end where the shard before them ends. Of the type
        # of the array: given another, numpy would first convert the whole array.
        shard = int(np.searchsorted(self._shard_starts, np.int32(number), side="right")) - 1
        return shard, (number - int(self._shard_starts[shard])) * self.block

    def __len__(self) -> int:
        """Blocks of all shards."""
        return int(self._shard_starts[-1])

    def counts(self, low: int, high: int) -> NDArray[np.int32]:
        """Pairs of each of the blocks low..high-1; all of a large dataset would take much memory."""
        counts = np.full(high - low, self.block, np.int32)
        first, last = np.searchsorted(self._short, np.array([low, high], np.int32))
        counts[self._short[first:last] - low] -= self._lacking[first:last]
        return counts

    def parts(self, epoch: int) -> Iterator[Part]:
        """What an epoch takes: the whole copies, then the stretch, in at most two cycles."""
        for copy in range(self.source.copies):
            yield Part(source=self.number, copy=copy, blocks=range(len(self)), counts=self.counts)
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
        whole = Part(source=self.number, copy=0, blocks=range(len(self)), counts=self.counts)
        at_once = max(_SORTED, len(self) // 16)
        line = Line([whole], key, most=at_once)
        low, high = line.piece_at(0, begin), line.piece_at(0, end - 1) + 1
        blocks = np.empty(high - low, np.int32)
        counts = np.empty(high - low, np.min_scalar_type(self.block))  # small: they stay for an epoch
        skip = 0
        for first in range(low, high, at_once):
            numbers, edges = line.cut(0, first, min(first + at_once, high))
            skip = skip or max(0, begin - int(edges[0]))
            own = slice(first - low, first - low + len(numbers))
            blocks[own], counts[own] = numbers, np.diff(np.clip(edges, begin, end))

        def cut(low: int, high: int) -> NDArray[np.int32]:
            return counts[low:high].astype(np.int32)

        return Part(source=self.number, copy=copy, blocks=blocks, counts=cut, skip=skip)
