"""From shards to samples: a rank's pairs in the order of the epoch, read ahead within bounds."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from pack.dataset import DamagedPair, Dataset, StoredPair
from pack.selection import Selection
from train.order import EpochOrder, Run, Window

Sample = dict[str, Any]
Visit = tuple[StoredPair | DamagedPair, int]  # a pair and the number of its visit within the epoch


@dataclass(frozen=True, kw_only=True)
class StoredSource:
    """A dataset of a mixture, with the pairs of it that take part."""

    dataset: Dataset
    selection: Selection | None = None
    """Of a filter; None takes all pairs."""

    def read(self, run: Run, block: int) -> list[Visit]:
        """The pairs of a run.

        Args:
            run: of this source.
            block: pairs of the order's blocks. Where a cache is filled, a block that the order cut is
                read whole, so that later epochs, which cut others, find it.
        """
        first, stop = run.first, run.first + run.count
        if self.dataset.cache:
            first -= first % block
            stop = min(-(-stop // block) * block, self._pairs_of(run.shard))
        rows = np.arange(first, stop)
        if self.selection is not None:
            rows = self.selection.rows(run.shard)[first:stop]
        pairs = self.dataset.read_rows(run.shard, rows)
        return [(pair, run.copy) for pair in pairs[run.first - first :][: run.count]]

    def _pairs_of(self, shard: int) -> int:
        counts = self.selection.counts if self.selection is not None else None
        return self.dataset.manifest.shards[shard].pairs if counts is None else int(counts[shard])

    def read_alone(self, run: Run) -> Visit:
        """The one pair of a run, without its block."""
        row = run.first if self.selection is None else int(self.selection.rows(run.shard)[run.first])
        return self.dataset.read_block(run.shard, row, 1)[0], run.copy

    def expected_bytes(self, run: Run) -> int:
        """About how much a run is, by the manifest's means: no index is read to plan."""
        shard = self.dataset.manifest.shards[run.shard]
        return run.count * shard.bytes // shard.pairs


def read_samples(
    sources: Sequence[StoredSource],
    order: EpochOrder,
    *,
    rank: int,
    world_size: int,
    position: int,
    pool: ThreadPoolExecutor,
    read_ahead_bytes: int,
) -> Iterator[tuple[int, Sample | DamagedPair]]:
    """Yields a rank's pairs from a position of the epoch on, as WebDataset samples.

    The first pair of every lane is asked for alone, before any block: the first steps need not wait until
    a block a lane has come (where a cache is filled, blocks come first and stay).

    Args:
        sources: where the pairs lie, as the order numbers them.
        order: of the epoch.
        rank: 0..world_size-1.
        world_size: divides the order's lanes.
        position: of the epoch, a multiple of the world size.
        pool: threads that read.
        read_ahead_bytes: how much may be under way or waiting beside the windows in use.

    Yields:
        The position, and the sample: ``__key__``, ``__url__``, ``__position__``, ``__pair_id__`` (int64),
        ``__copy__``, and the members ``real.EXT``, ``fake.EXT``, ``json`` as bytes whose CRC was
        checked. Or the pair that can't be one.

    Raises:
        UserError: a shard is missing, short or replaced, or storage fails.
    """
    coming = order.rank_windows(rank, world_size, position)
    lanes = len(range(position + rank, min(position + order.lanes, order.pairs), world_size))
    initial = list(islice(coming, lanes))
    express = {}
    if not any(source.dataset.cache for source in sources):
        for window in initial:
            run = _first_of(window)
            express[window.lane] = pool.submit(sources[run.source].read_alone, run)
    windows = _read_ahead(sources, order, chain(initial, coming), pool, read_ahead_bytes)
    in_use: dict[int, Iterator[Visit]] = {}
    for place in range(position + rank, order.pairs, world_size):
        lane = place % order.lanes
        visit = next(in_use[lane], None) if lane in in_use else None
        if visit is None:
            window, runs = next(windows)
            assert (window.lane, window.item) == (lane, place // order.lanes)
            in_use[lane] = _visits(window, runs, express.pop(lane, None))
            visit = next(in_use[lane])
        pair, copy = visit
        yield place, (pair if isinstance(pair, DamagedPair) else _sample(pair, place, copy))


def _visits(
    window: Window, runs: list[Future[list[Visit]]], express: Future[Visit] | None
) -> Iterator[Visit]:
    """A window's pairs as they are handed out, each let go of then."""
    shuffle = window.shuffle.tolist()
    if express is not None:
        yield express.result()
        shuffle = shuffle[1:]
    visits: list[Visit | None] = [visit for run in runs for visit in run.result()] if shuffle else []
    runs.clear()
    for place in shuffle:
        visit, visits[place] = visits[place], None
        assert visit is not None
        yield visit


def _first_of(window: Window) -> Run:
    """The pair that a window hands out first, as a run of its own."""
    place = int(window.shuffle[0])
    for run in window.runs:
        if place < run.count:
            return replace(run, first=run.first + place, count=1)
        place -= run.count
    raise AssertionError("the shuffle points past the runs")


def _read_ahead(
    sources: Sequence[StoredSource],
    order: EpochOrder,
    windows: Iterator[Window],
    pool: ThreadPoolExecutor,
    limit: int,
) -> Iterator[tuple[Window, list[Future[list[Visit]]]]]:
    """Starts to read windows in their order, new ones while fewer than `limit` bytes are ahead."""

    def read(run: Run) -> list[Visit]:
        return sources[run.source].read(run, order.block)

    ahead: deque[tuple[Window, int, list[Future[list[Visit]]]]] = deque()
    held, more = 0, True
    while True:
        while more and (held < limit or not ahead):
            window = next(windows, None)
            if window is None:
                more = False
                break
            size = sum(sources[run.source].expected_bytes(run) for run in window.runs)
            ahead.append((window, size, [pool.submit(read, run) for run in window.runs]))
            held += size
        if not ahead:
            return
        window, size, runs = ahead.popleft()
        held -= size
        yield window, runs


def _sample(pair: StoredPair, position: int, copy: int) -> Sample:
    signed_id = pair.pair_id - 2**64 if pair.pair_id >= 2**63 else pair.pair_id
    return {
        "__key__": pair.key,
        "__url__": pair.url,
        "__position__": position,
        "__pair_id__": signed_id,
        "__copy__": copy,
        **pair.members,
    }
