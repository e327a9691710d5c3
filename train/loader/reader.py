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
from recon.base.cpus import ahead
from recon.base.errors import UserError
from train.draws.config import AugmentConfig
from train.loader.known_tars import KnownTars
from train.loader.messages import Room, Slot
from train.ops.coded import most_blocks
from train.order.epoch import EpochOrder
from train.order.mixture import Source
from train.stream.samples import Fakes, Sample, StoredSource, read_samples
from train.window.cutter import WindowCutter
from train.window.masked_batch import WindowBatch, collate

Stage = Callable[[Iterator[Sample]], Iterator[Sample]]
Memory = Callable[[], Slot]


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """One dataset of a loader."""

    url: str
    manifest: Manifest
    weight: float = 1.0
    selection: Selection | None = None

    def ordered(self) -> Source:
        """What the order needs to know of it."""
        chosen = self.selection.counts if self.selection else self.manifest.numbers("pairs")
        return Source(shard_pairs=chosen, weight=self.weight, name=self.url)


@dataclass(frozen=True, kw_only=True)
class LoaderPlan:
    """All that reading needs to know; it goes to the worker pickled."""

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
    fakes: Fakes = "drawn"
    on_device: bool = False
    """Whether the device decodes what can be decoded in part."""
    stages: tuple[Stage, ...] = ()

    @property
    def window_shape(self) -> tuple[int, int, int, int, int]:
        """(B, P, H, W, C) of a batch's windows, uint8; B rows of `train.window.masked_batch`."""
        side = self.augment.window_side if self.augment else self.centre_crop
        views = self.augment.views if self.augment else 1
        return self.batch_size * views, 2, side, side, 3

    @property
    def room(self) -> Room:
        """What a batch needs."""
        rows, images, side, *_ = self.window_shape
        return Room(self.window_shape, rows * images * most_blocks(side) if self.on_device else 0)

    @property
    def changed_side(self) -> int:
        """Side of the crops of mask images; 0 if no dataset has such."""
        if not any(source.manifest.masks for source in self.sources):
            return 0
        return self.augment.crop if self.augment else self.centre_crop

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
            memory: gives a slot of `LoaderPlan.room` to fill, one call a batch.
            check: is called before each pair; raises where the batch is no longer wanted.

        Raises:
            UserError: see `train.stream.samples.read_samples` and `train.window.cutter.WindowCutter`.
        """
        plan = self.plan
        order = plan.order(epoch)
        side, on_device = plan.centre_crop, plan.on_device
        cutter = WindowCutter(plan.augment, side=side, seed=plan.seed, epoch=epoch, on_device=on_device)
        global_batch = plan.batch_size * plan.world_size
        with _threads(plan.reads, "read") as readers, _threads(plan.threads, "decode") as decoders:
            samples = self._samples(order, step * global_batch, readers)
            cuts = ahead(decoders, cutter, cutter.drawn(samples), 2 * plan.threads)
            for positions in order.positions(plan.rank, plan.world_size, global_batch, step):
                row = []
                for _ in range(sum(position < order.pairs for position in positions)):
                    # Not once a batch: the first batch waits for storage, and a trainer that left its loop
                    # meanwhile would wait for that too.
                    check()
                    row.append(next(cuts))
                # Memory only now: no slot is held while storage is waited for.
                slot = memory()
                yield collate(row, slot.windows_BPHWC, plan.changed_side, slot.blocks_M64)

    def _samples(
        self, order: EpochOrder, position: int, readers: ThreadPoolExecutor
    ) -> Iterator[Sample | DamagedPair]:
        """The rank's samples after the user's stages, each checked to be the one that is due."""
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
        positions = range(position + self.plan.rank, order.pairs, self.plan.world_size)
        return _through_stages(stored, positions, self.plan.stages)


def _open_sources(plan: LoaderPlan) -> list[StoredSource]:
    retry = Retry(deadline_s=plan.deadline_s)
    cache = None
    if plan.cache_dir:
        tars = KnownTars([source.manifest for source in plan.sources])
        cache = BlockCache(plan.cache_dir, int(plan.cache_gb * 1e9), tars)
    return [
        StoredSource(
            dataset=Dataset(
                source.url,
                retry=retry,
                cache=cache,
                manifest=source.manifest,
                hints=True,
                partly=not plan.stages,  # stages take bytes
            ),
            selection=source.selection,
            fakes=plan.fakes,
        )
        for source in plan.sources
    ]


def _through_stages(
    stored: Iterator[tuple[int, Sample | DamagedPair]], positions: Sequence[int], stages: Sequence[Stage]
) -> Iterator[Sample | DamagedPair]:
    """Sends the sound samples through the user's stages; damaged pairs go around them."""
    from webdataset import DataPipeline  # costs 470 MiB: only for those who have stages

    damaged: dict[int, DamagedPair] = {}  # by position

    def sound() -> Iterator[Sample]:
        for position, sample in stored:
            if isinstance(sample, DamagedPair):
                damaged[position] = sample
            else:
                yield sample

    # A sample is drawn one ahead: only then is it known which damaged pairs were passed before it.
    samples = iter(DataPipeline(sound, *stages))
    ahead = next(samples, None)
    for position in positions:
        if position in damaged:
            yield damaged.pop(position)
            continue
        _check_position(ahead, f"position {position}")
        assert ahead is not None
        yield ahead
        ahead = next(samples, None)
    _check_position(ahead, "nothing")


def _check_position(sample: Any, expected: str) -> None:
    """Refuses a sample that the user's stages moved, doubled, dropped or turned into something else."""
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
    """A pool of threads. At its end it drops what has not begun, and does not wait for what runs.

    What runs may be a read that hangs until its deadline, and a loop that is left must end at once.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
