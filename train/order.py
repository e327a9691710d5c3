"""The order of an epoch: a function of (manifest, seed, epoch) alone.

Pairs lie in *blocks* (runs of one shard). Blocks are permuted and laid end to end; the
line is cut into one run a *lane*; within a lane the pairs of successive blocks are shuffled
in *windows*. Position p of the epoch is item p // lanes of lane p % lanes. Step t of global
batch G takes positions [tG, (t+1)G), and rank r of a world those with p % world == r, so
that ranks, workers and timing change nothing. Nothing here reads a byte.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recon.errors import UserError
from train.counter import permutation, stream_key, words


@dataclass(frozen=True, kw_only=True)
class Run:
    """Successive pairs of one shard, read in one request."""

    shard: int
    first: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """The pairs that one lane shuffles together."""

    lane: int
    item: int
    """Number, within the lane, of the first pair that this window hands out."""
    runs: tuple[Run, ...]
    """What is read, in this order."""
    shuffle: NDArray[np.int64]
    """Places among the pairs read, in the order in which they are handed out."""


class EpochOrder:
    """The order of one epoch of one dataset.

    Args:
        shard_pairs: pairs of each shard, in the manifest's order.
        seed: of the run.
        epoch: from 0.
        lanes: reading lanes; a multiple of every world size that is to be used.
        block: pairs read together; 1 is taken where there are under lanes x block pairs.
        window: successive blocks shuffled together.
    """

    def __init__(
        self, shard_pairs: Sequence[int], *, seed: int, epoch: int, lanes: int, block: int, window: int
    ) -> None:
        self.pairs = int(sum(shard_pairs))
        self.seed, self.epoch = seed, epoch
        self.lanes, self.window = lanes, window
        self.block = block if self.pairs >= lanes * block else 1
        self._lay_blocks(np.asarray(shard_pairs, np.int64))
        self._cut_lanes()

    def _key(self, name: str) -> int:
        return stream_key(self.seed, self.epoch, name)

    def _lay_blocks(self, shard_pairs: NDArray[np.int64]) -> None:
        """The permuted line of blocks: shard, first pair and end on the line of each."""
        blocks = -(-shard_pairs // self.block)
        shard = np.repeat(np.arange(len(shard_pairs)), blocks)
        number = np.arange(len(shard)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        first = number * self.block
        count = np.minimum(self.block, shard_pairs[shard] - first)
        line = permutation(self._key("blocks"), len(shard))
        self._shard, self._first = shard[line], first[line]
        self._end = np.cumsum(count[line])
        self._start = self._end - count[line]

    def _cut_lanes(self) -> None:
        """Where each lane's run begins on the line, and how many pairs it has."""
        lane = np.arange(self.lanes)
        self._length = np.maximum(0, -(-(self.pairs - lane) // self.lanes))
        drawn = permutation(self._key("lanes"), self.lanes)
        self._begin = np.empty(self.lanes, np.int64)
        self._begin[drawn] = np.cumsum(self._length[drawn]) - self._length[drawn]

    @cached_property
    def _first_window(self) -> NDArray[np.int64]:
        """Blocks of each lane's first window, 1..window: lanes refill at different times."""
        return 1 + words(self._key("windows"), np.arange(self.lanes)) % self.window

    def windows(self, lane: int, item: int = 0) -> Iterator[Window]:
        """The windows of a lane from its `item`-th pair on; the first may be entered in its midst."""
        begin, length = int(self._begin[lane]), int(self._length[lane])
        if item >= length:
            return
        first_block = int(np.searchsorted(self._end, begin, side="right"))
        here = int(np.searchsorted(self._end, begin + item, side="right")) - first_block
        lead = int(self._first_window[lane])
        number = 0 if here < lead else 1 + (here - lead) // self.window
        done = 0
        while done < length:
            low = first_block + (0 if number == 0 else lead + (number - 1) * self.window)
            high = first_block + lead + number * self.window
            window, done = self._cut_window(lane, low, high, begin, length, item)
            yield window
            number += 1

    def _cut_window(
        self, lane: int, low: int, high: int, begin: int, length: int, item: int
    ) -> tuple[Window, int]:
        """The window of blocks low..high-1 of the line, and the lane's pairs done after it."""
        high = min(high, len(self._end))
        starts = np.maximum(self._start[low:high], begin)
        ends = np.minimum(self._end[low:high], begin + length)
        inside = ends > starts
        starts, ends = starts[inside], ends[inside]
        blocks = np.arange(low, high)[inside]
        runs = tuple(
            Run(
                shard=int(self._shard[block]),
                first=int(self._first[block] + start - self._start[block]),
                count=int(end - start),
            )
            for block, start, end in zip(blocks, starts, ends, strict=True)
        )
        skipped = max(0, item - int(starts[0] - begin))
        line = np.arange(starts[0], ends[-1])
        shuffle = np.argsort(words(self._key("items"), line), kind="stable")[skipped:]
        window = Window(lane=lane, item=int(starts[0]) - begin + skipped, runs=runs, shuffle=shuffle)
        return window, int(ends[-1]) - begin

    def steps(self, global_batch: int) -> int:
        """Optimiser steps of the epoch; the last may have masked slots."""
        return -(-self.pairs // global_batch)

    def positions(self, rank: int, world_size: int, global_batch: int, step: int = 0) -> Iterator[list[int]]:
        """For each step from `step` on, a rank's positions; those >= `pairs` are masked slots."""
        for number in range(step, self.steps(global_batch)):
            start = number * global_batch
            yield list(range(start + rank, start + global_batch, world_size))

    def rank_windows(self, rank: int, world_size: int, position: int = 0) -> Iterator[Window]:
        """A rank's windows in the order in which positions from `position` on need them."""
        streams = [
            self._needed(lane, max(0, -(-(position - lane) // self.lanes)))
            for lane in range(rank, self.lanes, world_size)
        ]
        for _, window in heapq.merge(*streams, key=lambda needed: needed[0]):
            yield window

    def _needed(self, lane: int, item: int) -> Iterator[tuple[int, Window]]:
        for window in self.windows(lane, item):
            yield window.item * self.lanes + lane, window


def check_world(*, world_size: int, lanes: int, global_batch: int) -> None:
    """Refuses a world size that would split a lane or a step unevenly.

    Raises:
        UserError: naming the option and the nearest values that would do.
    """
    for name, value in (("lanes", lanes), ("global_batch", global_batch)):
        if value % world_size:
            below = value // world_size * world_size
            choices = f"{below} or {below + world_size}" if below else f"{world_size}"
            raise UserError(f"{name}={value} is not a multiple of the world size {world_size}; use {choices}")
