"""The host's side of a loader: stored pairs to batches of windows.

Runs in the loader's worker process, or in the trainer itself; torch is not imported here, so
that a worker starts fast and stays small.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pack.dataset.cache import BlockCache
from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair
from pack.dataset.selection import Selection
from pack.shard.manifest import Manifest
from pack.storage import Retry
from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.augment.draws.config import AugmentConfig
from train.order.epoch import EpochOrder
from train.order.mixture import Source
from train.stream.samples import Sample, StoredSource, read_samples
from train.window.cutter import WindowBatch, WindowCutter, collate, map_ahead

Stage = Callable[[Iterator[Sample]], Iterator[Sample]]
Memory = Callable[[], Pixels]


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """One dataset of a loader."""

    url: str
    manifest: Manifest
    weight: float = 1.0
    selection: Selection | None = None

    def ordered(self) -> Source:
        """What the order needs to know of it."""
        counts = [shard.pairs for shard in self.manifest.shards]
        chosen = self.selection.counts if self.selection else counts
        return Source(shard_pairs=chosen, weight=self.weight, name=self.url)


@dataclass(frozen=True, kw_only=True)
class LoaderPlan:
    """All that the host's side needs to know; it goes to the worker pickled."""

    sources: tuple[SourcePlan, ...]
    rank: int
    world_size: int
    batch_size: int
    seed: int
    lanes: int
    block: int
    window: int
    augment: AugmentConfig | None
    centre_crop: int
    threads: int
    reads: int
    read_ahead_mb: int
    deadline_s: float
    cache_dir: str | None
    cache_gb: float
    stages: tuple[Stage, ...] = ()

    @property
    def window_shape(self) -> tuple[int, int, int, int, int]:
        """(B, P, H, W, C) of a batch's windows, uint8."""
        side = self.augment.window_side if self.augment else self.centre_crop
        return self.batch_size, 2, side, side, 3

    def order(self, epoch: int) -> EpochOrder:
        """The order of an epoch."""
        return EpochOrder(
            [source.ordered() for source in self.sources],
            seed=self.seed,
            epoch=epoch,
            lanes=self.lanes,
            block=self.block,
            window=self.window,
        )


class BatchReader:
    """Reads, decodes and cuts a rank's pairs.

    Args:
        plan: of the loader.
    """

    def __init__(self, plan: LoaderPlan) -> None:
        self.plan = plan
        self.sources = _open_sources(plan)

    def batches(
        self, epoch: int, step: int, memory: Memory, check: Callable[[], None] = lambda: None
    ) -> Generator[WindowBatch, None, None]:
        """The rank's batches from a step of an epoch on.

        Args:
            epoch: from 0.
            step: of the epoch, from 0.
            memory: gives uint8 windows of `LoaderPlan.window_shape` to fill, one call a batch.
            check: is called before each pair; raises where nobody wants the batch any more.

        Raises:
            UserError: see `train.stream.samples.read_samples` and `train.window.cutter.WindowCutter`.
        """
        plan = self.plan
        order = plan.order(epoch)
        cutter = WindowCutter(plan.augment, side=plan.centre_crop, seed=plan.seed, epoch=epoch)
        global_batch = plan.batch_size * plan.world_size
        with _threads(plan.reads, "read") as readers, _threads(plan.threads, "decode") as decoders:
            samples = self._samples(order, step * global_batch, readers)
            cuts = map_ahead(cutter, cutter.drawn(samples), decoders, ahead=2 * plan.threads)
            for places in order.positions(plan.rank, plan.world_size, global_batch, step):
                row = []
                for _ in range(sum(place < order.pairs for place in places)):
                    check()
                    row.append(next(cuts))
                yield collate(row, memory())

    def _samples(
        self, order: EpochOrder, position: int, readers: ThreadPoolExecutor
    ) -> Iterator[Sample | DamagedPair]:
        """The rank's samples after the user's stages, each checked to stand in its place."""
        stored = read_samples(
            self.sources,
            order,
            rank=self.plan.rank,
            world_size=self.plan.world_size,
            position=position,
            urgent=self.plan.batch_size,
            pool=readers,
            read_ahead_bytes=self.plan.read_ahead_mb << 20,
        )
        if not self.plan.stages:
            return (sample for _, sample in stored)
        places = range(position + self.plan.rank, order.pairs, self.plan.world_size)
        return _through_stages(stored, places, self.plan.stages)


def _open_sources(plan: LoaderPlan) -> list[StoredSource]:
    retry = Retry(deadline_s=plan.deadline_s)
    cache = None
    if plan.cache_dir:
        shards = [shard.sha256 for source in plan.sources for shard in source.manifest.shards]
        cache = BlockCache(plan.cache_dir, int(plan.cache_gb * 1e9), shards)
    return [
        StoredSource(
            dataset=Dataset(source.url, retry=retry, cache=cache, manifest=source.manifest),
            selection=source.selection,
        )
        for source in plan.sources
    ]


def _through_stages(
    stored: Iterator[tuple[int, Sample | DamagedPair]], places: Sequence[int], stages: Sequence[Stage]
) -> Iterator[Sample | DamagedPair]:
    """Sends the sound samples through the user's stages; damaged pairs go around them."""
    from webdataset import DataPipeline

    damaged: dict[int, DamagedPair] = {}

    def sound() -> Iterator[Sample]:
        for place, sample in stored:
            if isinstance(sample, DamagedPair):
                damaged[place] = sample
            else:
                yield sample

    samples = iter(DataPipeline(sound, *stages))
    waiting = next(samples, None)
    for place in places:
        if place in damaged:
            yield damaged.pop(place)
            continue
        _check_place(waiting, f"position {place}")
        assert waiting is not None
        yield waiting
        waiting = next(samples, None)
    _check_place(waiting, "nothing")


def _check_place(sample: Any, expected: str) -> None:
    """Refuses a sample that the user's stages moved, doubled, dropped or made something else of."""
    found = "nothing"
    if isinstance(sample, dict):
        found = f"position {sample.get('__position__')}"
    elif sample is not None:
        found = f"a {type(sample).__name__}"
    if found != expected:
        raise UserError(
            f"stages gave {found}, expected {expected}; give one sample (a dict) for each, in order"
        )


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool whose end drops what has not begun, and leaves what runs, a read that hangs maybe, to itself."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
