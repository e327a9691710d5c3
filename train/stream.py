"""From shards to samples: a rank's pairs in the order of the epoch, read ahead within bounds."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pack.dataset import Dataset, StoredPair
from train.order import EpochOrder, Window

Sample = dict[str, Any]


def read_samples(
    dataset: Dataset,
    order: EpochOrder,
    *,
    rank: int,
    world_size: int,
    position: int,
    pool: ThreadPoolExecutor,
    read_ahead_bytes: int,
) -> Iterator[Sample]:
    """Yields a rank's pairs from a position of the epoch on, as WebDataset samples.

    Args:
        dataset: where the pairs lie.
        order: of the epoch.
        rank: 0..world_size-1.
        world_size: divides the order's lanes.
        position: of the epoch, a multiple of the world size.
        pool: threads that read.
        read_ahead_bytes: how much may be under way or waiting beside the windows in use.

    Yields:
        ``__key__``, ``__url__``, ``__position__``, ``__pair_id__`` (int64), and the members:
        ``real.EXT``, ``fake.EXT``, ``json``, as bytes whose CRC was checked.

    Raises:
        UserError: a shard is missing, short or damaged.
    """
    windows = _read_ahead(dataset, order.rank_windows(rank, world_size, position), pool, read_ahead_bytes)
    buffers: dict[int, deque[tuple[str, StoredPair]]] = {}
    for place in range(position + rank, order.pairs, world_size):
        lane = place % order.lanes
        if not buffers.get(lane):
            window, pairs = next(windows)
            assert (window.lane, window.item) == (lane, place // order.lanes)
            buffers[lane] = deque(pairs[i] for i in window.shuffle)
        url, pair = buffers[lane].popleft()
        yield _sample(url, pair, place)


def _read_ahead(
    dataset: Dataset, windows: Iterator[Window], pool: ThreadPoolExecutor, limit: int
) -> Iterator[tuple[Window, list[tuple[str, StoredPair]]]]:
    """Reads windows in their order, starting new ones while fewer than `limit` bytes are ahead."""
    ahead: deque[tuple[Window, int, Future[list[tuple[str, StoredPair]]]]] = deque()
    held, more = 0, True
    while True:
        while more and (held < limit or not ahead):
            window = next(windows, None)
            if window is None:
                more = False
                break
            size = _expected_bytes(dataset, window)
            ahead.append((window, size, pool.submit(_read_window, dataset, window)))
            held += size
        if not ahead:
            return
        window, size, pairs = ahead.popleft()
        held -= size
        yield window, pairs.result()


def _expected_bytes(dataset: Dataset, window: Window) -> int:
    """About how much a window is, by the manifest's means: no index is read to plan."""
    shards = dataset.manifest.shards
    return sum(run.count * shards[run.shard].bytes // shards[run.shard].pairs for run in window.runs)


def _read_window(dataset: Dataset, window: Window) -> list[tuple[str, StoredPair]]:
    pairs: list[tuple[str, StoredPair]] = []
    for run in window.runs:
        url = f"{dataset.store.url}/{dataset.manifest.shards[run.shard].name}.tar"
        pairs += [(url, pair) for pair in dataset.read_block(run.shard, run.first, run.count)]
    return pairs


def _sample(url: str, pair: StoredPair, position: int) -> Sample:
    signed_id = pair.pair_id - 2**64 if pair.pair_id >= 2**63 else pair.pair_id
    about = {"__key__": pair.key, "__url__": url, "__position__": position, "__pair_id__": signed_id}
    return about | pair.members
