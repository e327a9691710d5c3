"""From shards to samples: a rank's pairs in the order of the epoch, read ahead within bounds.

`train.order` explains the words: lane, item, shuffle window, run, position.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.dataset.selection import Selection
from train.draws.fakes import drawn_fakes
from train.draws.parameters import visit_ids
from train.order.counter import signed
from train.order.epoch import EpochOrder, Run, ShuffleWindow

Sample = dict[str, Any]
Fakes = Literal["drawn", "first"]
Visit = tuple[StoredPair | DamagedPair, int]  # a pair, and the `copy` of its run
Reading = tuple[ShuffleWindow, list[Future[list[Visit]]]]  # a shuffle window, and its runs as they come


@dataclass(frozen=True, kw_only=True)
class StoredSource:
    """A dataset of a mixture, with the pairs of it that take part."""

    dataset: Dataset
    selection: Selection | None = None
    """Of a filter; None takes all pairs."""
    fakes: Fakes = "drawn"
    """Which of several fakes a pair has at a visit: one drawn by seed, epoch and visit, or the first."""

    def read(self, run: Run, order: EpochOrder) -> list[Visit]:
        """The pairs of a run.

        Args:
            run: of this source.
            order: that the run is part of.
        """
        # The cache knows whole blocks only, as every epoch cuts other ones. So with a cache, what the order
        # cut is read whole: later epochs find it.
        first, stop, block = run.first, run.first + run.count, order.block
        if self.dataset.cache:
            first -= first % block
            stop = min(-(-stop // block) * block, self._pairs_of(run.shard))
        rows = np.arange(first, stop)
        if self.selection is not None:  # the order counts selected pairs, the shard all of them
            rows = self.selection.rows(run.shard)[first:stop]
        pairs = self.dataset.read_rows(run.shard, rows, self._fakes_of(run, rows, order))
        return [(pair, run.copy) for pair in pairs[run.first - first :][: run.count]]

    def _pairs_of(self, shard: int) -> int:
        counts = self.selection.counts if self.selection is not None else None
        return self.dataset.manifest.shards[shard].pairs if counts is None else int(counts[shard])

    def read_alone(self, run: Run, order: EpochOrder) -> Visit:
        """The one pair of a run, without its block."""
        row = run.first if self.selection is None else int(self.selection.rows(run.shard)[run.first])
        rows = np.array([row])
        return self.dataset.read_rows(run.shard, rows, self._fakes_of(run, rows, order))[0], run.copy

    def _fakes_of(self, run: Run, rows: NDArray[np.int64], order: EpochOrder) -> NDArray[np.int64] | None:
        """(n,) which of its fakes each pair has at this visit; None if pairs have one fake."""
        fakes = self.dataset.manifest.fakes
        if fakes == 1:
            return None
        allowed_nF = np.ones((len(rows), fakes), np.bool_)
        if self.selection is not None:
            allowed_nF = self.selection.allowed(run.shard, rows, fakes)
        if self.fakes == "first":
            return np.asarray(allowed_nF.argmax(axis=1))
        ids_n = visit_ids(self.dataset.index(run.shard).pair_ids[rows].view(np.int64), run.copy)
        return drawn_fakes(order.seed, order.epoch, ids_n, allowed_nF)

    def expected_bytes(self, run: Run) -> int:
        """About the bytes of a run: the mean of its shard, as no index is read to plan ahead."""
        shard = self.dataset.manifest.shards[run.shard]
        return run.count * shard.bytes // shard.pairs


def read_samples(
    sources: Sequence[StoredSource],
    order: EpochOrder,
    *,
    rank: int,
    world_size: int,
    position: int,
    urgent: int,
    pool: Executor,
    read_ahead_bytes: int,
) -> Iterator[tuple[int, Sample | DamagedPair]]:
    """Yields a rank's pairs from a position of the epoch on, as WebDataset samples.

    The first pair of every lane is asked for alone, before any block. Otherwise the first step would wait for
    a whole shuffle window of every lane. (Not with a cache: it would keep each such pair as a block of its
    own, which hardly any later epoch asks for.)

    Args:
        sources: where the pairs lie, as the order numbers them.
        order: of the epoch.
        rank: 0..world_size-1.
        world_size: divides the order's lanes.
        position: of the epoch, a multiple of the world size.
        urgent: how many first pairs are read before anything else: those of the first batch.
        pool: threads that read.
        read_ahead_bytes: how much may be on its way or waiting, besides the shuffle windows in use.

    Yields:
        The position, and the sample: ``__key__``, ``__url__``, ``__position__``, ``__pair_id__`` (int64),
        ``__copy__``, ``__fake__`` (which of several fakes this is, from 0), ``__stored__`` (the pair as it
        was read), and the members ``real.EXT``, ``fake.EXT``, ``json`` as bytes whose CRC was checked. In
        place of a sample, a damaged pair.

    Raises:
        UserError: a shard is missing, short or replaced, or storage fails.
    """
    positions = range(position + rank, order.pairs, world_size)
    coming = order.rank_windows(rank, world_size, position)
    cached = any(source.dataset.cache for source in sources)
    initial = [] if cached else list(islice(coming, min(len(positions), order.lanes // world_size)))
    later = _after_first_pairs(initial, coming, order)
    windows = _read_ahead(sources, order, later, pool, read_ahead_bytes)
    alone = _read_alone(sources, order, initial[:urgent], pool)
    for number, current in enumerate(positions[: len(initial)]):
        if number == urgent:
            alone += _read_alone(sources, order, initial[urgent:], pool)
            # `windows` is a generator, which does nothing before its first item is taken. Taken now and put
            # back: the blocks are on their way while the trainer works on its first batch.
            windows = chain(list(islice(windows, 1)), windows)
        yield current, sample_of(*alone.popleft().result(), current)
    yield from _hand_out(windows, positions[len(initial) :], order.lanes)


def _read_alone(
    sources: Sequence[StoredSource],
    order: EpochOrder,
    windows: Sequence[ShuffleWindow],
    pool: Executor,
) -> deque[Future[Visit]]:
    """Starts to read the first pair of each shuffle window."""
    runs = [_first_of(window) for window in windows]
    return deque(pool.submit(sources[run.source].read_alone, run, order) for run in runs)


def _after_first_pairs(
    initial: Sequence[ShuffleWindow], coming: Iterator[ShuffleWindow], order: EpochOrder
) -> Iterator[ShuffleWindow]:
    """The shuffle windows that are needed after the first pair of each initial one, in the order of need."""
    for window in initial:
        if len(window.shuffle) > 1:
            yield window
        elif (window.item + 1) * order.lanes + window.lane < order.pairs:
            yield next(coming)  # it held one pair, and its lane goes on with the next shuffle window
    yield from coming


def _hand_out(
    windows: Iterator[Reading], positions: Sequence[int], lanes: int
) -> Iterator[tuple[int, Sample | DamagedPair]]:
    """The pairs of shuffle windows at their positions."""
    in_use: dict[int, Iterator[Visit]] = {}  # by lane
    for position in positions:
        lane, item = position % lanes, position // lanes
        visit = next(in_use[lane], None) if lane in in_use else None
        if visit is None:
            window, runs = next(windows)
            assert window.lane == lane
            # One item further where the first pair was read alone.
            assert window.item <= item <= window.item + 1
            in_use[lane] = _visits(window.shuffle[item - window.item :], runs)
            visit = next(in_use[lane])
        yield position, sample_of(*visit, position)


def _visits(shuffle: NDArray[np.int64], runs: list[Future[list[Visit]]]) -> Iterator[Visit]:
    """The pairs of a shuffle window as they are handed out.

    Each is dropped from the list then: a rank holds hundreds of shuffle windows, half of them used up.
    """
    visits: list[Visit | None] = [visit for run in runs for visit in run.result()]
    runs.clear()  # the futures hold the pairs too
    for index in shuffle.tolist():
        visit, visits[index] = visits[index], None
        assert visit is not None
        yield visit


def _first_of(window: ShuffleWindow) -> Run:
    """The pair that a shuffle window hands out first, as a run of its own."""
    index = int(window.shuffle[0])
    for run in window.runs:
        if index < run.count:
            return replace(run, first=run.first + index, count=1)
        index -= run.count
    raise AssertionError("the shuffle points past the runs")


def _read_ahead(
    sources: Sequence[StoredSource],
    order: EpochOrder,
    windows: Iterator[ShuffleWindow],
    pool: Executor,
    limit: int,
) -> Iterator[Reading]:
    """Starts to read shuffle windows in their order, new ones while fewer than `limit` bytes are ahead."""

    def read(run: Run) -> list[Visit]:
        return sources[run.source].read(run, order)

    ahead: deque[tuple[ShuffleWindow, int, list[Future[list[Visit]]]]] = deque()
    held, more = 0, True
    while True:
        while more and (held < limit or not ahead):  # at least one, even if it is larger than the limit
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
        held -= size  # from here on it counts as in use
        yield window, runs


def sample_of(pair: StoredPair | DamagedPair, copy: int, position: int) -> Sample | DamagedPair:
    """A stored pair as `read_samples` yields it."""
    if isinstance(pair, DamagedPair):
        return pair
    return {
        "__key__": pair.key,
        "__url__": pair.url,
        "__position__": position,
        "__pair_id__": signed(pair.pair_id),
        "__copy__": copy,
        "__fake__": pair.fake_number,
        "__stored__": pair,
        **pair.members,
        **pair.ranged,
    }
