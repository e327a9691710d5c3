"""The order of an epoch: a function of (manifests, weights, seed, epoch) alone.

All blocks that the epoch takes of its datasets (see `train.order.mixture`) are permuted and laid end to
end. This line is cut into one section for each lane. Within a lane, the pairs of successive pieces are
shuffled together, a shuffle window at a time. Position p of the epoch is item p // lanes of lane p % lanes.
Step t of global batch G takes positions [tG, (t+1)G), and rank r of a world takes those of them with
p % world == r. So neither ranks nor workers nor timing change anything.

`train.order` explains the words. Nothing here reads a byte, and nothing imports torch: the process that
reads does not need it.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recon.base.errors import UserError
from train.order.counter import permutation, stream_key, words
from train.order.line import Line
from train.order.mixture import Blocks, Source

__all__ = ["EpochOrder", "Run", "ShuffleWindow", "Source", "check_world"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Successive pairs of one shard, all of one piece, read in one request."""

    source: int
    """Number of the dataset within the mixture."""
    shard: int
    """Within its dataset."""
    first: int
    """Number of the first pair within the shard (among those that its filter selects)."""
    count: int
    """Pairs."""
    copy: int
    """Tells the visits of a pair within the epoch apart, from 0."""


@dataclass(frozen=True, kw_only=True)
class ShuffleWindow:
    """Pairs of one lane that are shuffled together."""

    lane: int
    item: int
    """Number, within the lane, of the first pair that is handed out."""
    runs: tuple[Run, ...]
    """What is read, in this order."""
    shuffle: NDArray[np.int64]
    """Which of the pairs read is handed out first, which next, and so on; counted through all runs."""


class EpochOrder:
    """The order of one epoch of a mixture of datasets, or of one alone.

    Args:
        sources: the datasets, in the order in which the training run names them.
        seed: of the training run.
        epoch: from 0.
        lanes: a multiple of every world size that is to be used.
        block: pairs of a block; 1 is taken where the epoch has fewer than lanes x block pairs.
        window: pieces of a shuffle window.
    """

    def __init__(
        self, sources: Sequence[Source], *, seed: int, epoch: int, lanes: int, block: int, window: int
    ) -> None:
        self.pairs = sum(source.epoch_pairs for source in sources)
        self.seed, self.epoch = seed, epoch
        self.lanes, self.window = lanes, window
        self.block = block if self.pairs >= lanes * block else 1
        self._lay_pieces(sources)
        self._cut_lanes()

    def _key(self, name: str) -> int:
        return stream_key(self.seed, self.epoch, name)

    def _lay_pieces(self, sources: Sequence[Source]) -> None:
        """Permutes the pieces of the epoch and lays them end to end."""
        self._blocks = [
            Blocks(source, number=number, seed=self.seed, block=self.block)
            for number, source in enumerate(sources)
        ]
        parts = [part for blocks in self._blocks for part in blocks.parts(self.epoch)]
        self._line = Line(parts, self._key("blocks"))
        self._lane_pieces: dict[int, int] = {}
        """The piece of the line with which a lane begins, for lanes that are read."""

    def _cut_lanes(self) -> None:
        """Where each lane's section begins on the line, and how many pairs it has."""
        lane = np.arange(self.lanes)
        # Positions go round the lanes, so the first lanes get one pair more where the epoch does not divide.
        self._length = np.maximum(0, -(-(self.pairs - lane) // self.lanes))
        # The sections lie on the line in a drawn order: else lane 0 would always have its beginning.
        drawn = permutation(self._key("lanes"), self.lanes)
        self._begin = np.empty(self.lanes, np.int64)
        self._begin[drawn] = np.cumsum(self._length[drawn]) - self._length[drawn]

    @cached_property
    def _first_window(self) -> NDArray[np.int64]:
        """Pieces of each lane's first shuffle window, 1..window.

        Were they equal, all lanes would need their next shuffle window at the same step, and reading would
        come in bursts.
        """
        return 1 + words(self._key("windows"), np.arange(self.lanes)) % self.window

    def windows(self, lane: int, item: int = 0) -> Iterator[ShuffleWindow]:
        """The shuffle windows of a lane, from the one that holds an item on.

        Args:
            lane: 0..lanes-1.
            item: the first that is handed out; the items of its shuffle window before it are left out.
        """
        begin, length = int(self._begin[lane]), int(self._length[lane])
        if item >= length:
            return
        # Wherever a lane is entered, its shuffle windows are the same: their pieces are counted from the
        # lane's first one. So a resumed epoch goes on in the same order.
        first_piece = self._lane_pieces.get(lane)
        if first_piece is None:
            first_piece = self._line.piece_at(lane, begin)
        here = self._line.piece_at(lane, begin + item) - first_piece
        lead = int(self._first_window[lane])
        number = 0 if here < lead else 1 + (here - lead) // self.window
        done = 0
        while done < length:
            low = first_piece + (0 if number == 0 else lead + (number - 1) * self.window)
            high = first_piece + lead + number * self.window
            window, done = self._cut_window(lane, low, high, begin, length, item)
            yield window
            number += 1

    def _cut_window(
        self, lane: int, low: int, high: int, begin: int, length: int, item: int
    ) -> tuple[ShuffleWindow, int]:
        """The shuffle window of pieces low..high-1 of the line, and the lane's pairs done after it."""
        # The first and the last piece of a lane may lie partly in the lanes beside it: clip what is theirs.
        numbers, laid = self._line.cut(lane, low, high)
        pieces = zip(numbers.tolist(), laid.tolist(), strict=False)  # the last edge begins no piece
        edges = np.clip(laid, begin, begin + length).tolist()
        runs = tuple(
            self._run(number, start - own, end - start)
            for (number, own), (start, end) in zip(pieces, pairwise(edges), strict=True)
            if end > start
        )
        skipped = max(0, begin + item - edges[0])
        places = np.arange(edges[0], edges[-1])
        # Drawn for each place of the line, not for each index: no two shuffle windows draw the same.
        shuffle = np.argsort(words(self._key("items"), places), kind="stable")[skipped:]
        window = ShuffleWindow(lane=lane, item=edges[0] - begin + skipped, runs=runs, shuffle=shuffle)
        return window, edges[-1] - begin

    def _run(self, number: int, skip: int, count: int) -> Run:
        """Pairs of the piece of this number, those after the first `skip` of them."""
        which = bisect_right(self._line.part_starts, number) - 1
        part, within = self._line.parts[which], number - self._line.part_starts[which]
        shard, first = self._blocks[part.source].locate(int(part.blocks[within]))
        if within == 0:  # only the first piece of a part may leave out pairs at its block's start
            first += part.skip
        return Run(source=part.source, shard=shard, first=first + skip, count=count, copy=part.copy)

    def runs_of_lanes(self) -> NDArray[np.int64]:
        """(lanes,) runs that each lane reads: its pieces, and the parts of those that it shares."""
        sections = zip(self._begin.tolist(), self._length.tolist(), strict=True)
        ends = {lane: (begin, begin + length - 1) for lane, (begin, length) in enumerate(sections) if length}
        self._line.follow(ends)
        runs = np.zeros(self.lanes, np.int64)
        for lane, (first, last) in ends.items():
            runs[lane] = self._line.piece_at(lane, last) - self._line.piece_at(lane, first) + 1
        return runs

    def pairs_of_lanes(self) -> NDArray[np.int64]:
        """(lanes,) pairs of each lane."""
        return self._length

    def steps(self, global_batch: int) -> int:
        """Optimiser steps of the epoch; the last may have masked slots."""
        return -(-self.pairs // global_batch)

    def positions(self, rank: int, world_size: int, global_batch: int, step: int = 0) -> Iterator[list[int]]:
        """For each step from `step` on, a rank's positions; those >= `pairs` are masked slots."""
        for number in range(step, self.steps(global_batch)):
            start = number * global_batch
            yield list(range(start + rank, start + global_batch, world_size))

    def rank_windows(self, rank: int, world_size: int, position: int = 0) -> Iterator[ShuffleWindow]:
        """A rank's shuffle windows, in the order in which the positions from `position` on need them."""
        items = {
            lane: max(0, -(-(position - lane) // self.lanes))
            for lane in range(rank, self.lanes, world_size)  # world_size divides lanes: position p is
        }  # rank p % world_size's, and so is lane p % lanes
        begin = self._begin.tolist()
        open_lanes = {lane: item for lane, item in items.items() if item < self._length[lane]}
        self._line.follow({lane: (begin[lane], begin[lane] + item) for lane, item in open_lanes.items()})
        self._lane_pieces |= {lane: self._line.piece_at(lane, begin[lane]) for lane in open_lanes}
        streams = [self._needed(lane, item) for lane, item in open_lanes.items()]
        for _, window in heapq.merge(*streams, key=lambda needed: needed[0]):
            yield window

    def _needed(self, lane: int, item: int) -> Iterator[tuple[int, ShuffleWindow]]:
        """The shuffle windows of a lane, each with the position that needs it first."""
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
