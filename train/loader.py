"""`PairLoader`: aligned pairs out of packed shards, for any trainer.

loader = PairLoader("data/mine/train", batch_size=32, seed=0, rank=rank, world_size=world)
for batch in loader:                     # one epoch
    x = batch.images[batch.mask]         # (B, 2, 3, 96, 96) uint8: real, fake
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pack.dataset import open_dataset
from recon.errors import UserError
from train.augment.geometry import turn
from train.config import AugmentConfig
from train.order import EpochOrder, check_world
from train.stream import Sample, read_samples
from train.windows import WindowBatch, WindowCutter, collate, map_ahead, prefetch

Stage = Callable[[Iterator[Sample]], Iterator[Sample]]

_BATCHES_AHEAD = 2  # decoded batches waiting for the trainer


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A rank's share of one step. B slots, P = (real, fake)."""

    images: torch.Tensor
    """(B, P, 3, H, W) uint8 RGB on the loader's device; zeros where masked."""
    mask: torch.Tensor
    """(B,) bool on the loader's device: False where the epoch had no pair left for the slot."""
    keys: list[str]
    """Keys of the valid pairs, in the order of ``images[mask]``."""


class PairLoader:
    """Iterates over the epochs of a packed dataset: each pair exactly once, equal steps on all ranks.

    Each ``for batch in loader`` is the rest of the current epoch; the next one continues with the
    next epoch. The pairs of each step depend on the dataset, the seed and the global batch
    alone (see `train.order`), not on ranks or threads.

    Args:
        url: directory or fsspec URL of a packed dataset.
        batch_size: pairs per step of this rank; the global batch is batch_size x world_size.
        seed: of the order and of the augmentation.
        rank: of this process, 0..world_size-1.
        world_size: divides `lanes`.
        augment: geometry of the training windows, by default that of the recipe; None gives clean
            centre crops.
        centre_crop: side of the centre crop, where augment is None.
        lanes: reading lanes, see `train.order`; with block and window part of the order.
        block: pairs read together.
        window: blocks shuffled together in a lane.
        threads: reading threads, and as many decoding threads.
        read_ahead_mb: MiB read ahead of need. The loader holds about that, plus lanes / world_size
            x window x block stored pairs.
        device: where the batches go.
        stages: WebDataset stages such as ``wds.map(f)`` between reading and decoding, one sample in,
            one out: their number and order are checked.

    Raises:
        UserError: no dataset is there, the world size does not divide lanes, or a number is out of
            its range.
    """

    def __init__(
        self,
        url: str,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        augment: AugmentConfig | None = AugmentConfig(),  # noqa: B008 - frozen
        centre_crop: int = 256,
        lanes: int = 192,
        block: int = 16,
        window: int = 3,
        threads: int = 2,
        read_ahead_mb: int = 64,
        device: str | torch.device = "cpu",
        stages: Sequence[Stage] = (),
    ) -> None:
        counts = {"batch_size": batch_size, "world_size": world_size, "lanes": lanes, "block": block}
        counts |= {"window": window, "threads": threads, "read_ahead_mb": read_ahead_mb}
        _check_arguments(counts | {"centre_crop": centre_crop}, rank)
        self.dataset = open_dataset(url)
        self.global_batch = batch_size * world_size
        check_world(world_size=world_size, lanes=lanes, global_batch=self.global_batch)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.seed, self.lanes, self.block, self.window = seed, lanes, block, window
        self.augment, self.centre_crop = augment, centre_crop
        self.threads, self.read_ahead_mb = threads, read_ahead_mb
        self.device = torch.device(device)
        self.stages = tuple(stages)
        self.epoch = self.step = 0

    def __len__(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        return -(-self.dataset.manifest.pairs // self.global_batch)

    def set_epoch(self, epoch: int) -> None:
        """Starts the given epoch (from 0) at its first step."""
        self.epoch, self.step = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the trainer is: what it was given so far counts as consumed."""
        return self._order_facts() | {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where a `state_dict` was taken, on this or another world size.

        Raises:
            UserError: the state is of another dataset, seed or order.
        """
        for name, value in self._order_facts().items():
            if state.get(name) != value:
                raise UserError(
                    f"state has {name}={state.get(name)!r}, this loader {value!r}; the order would change"
                )
        self.epoch, self.step = state["epoch"], state["step"]

    def _order_facts(self) -> dict[str, Any]:
        return {
            "manifest": self.dataset.manifest.sha256,
            "seed": self.seed,
            "global_batch": self.global_batch,
            "lanes": self.lanes,
            "block": self.block,
            "window": self.window,
        }

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch."""
        epoch, first = self.epoch, self.step
        with closing(prefetch(self._batches(epoch, first), _BATCHES_AHEAD)) as batches:
            for number, batch in enumerate(batches, first + 1):
                over = number == len(self)
                self.epoch, self.step = (epoch + 1, 0) if over else (epoch, number)
                yield self._to_device(batch)

    def _batches(self, epoch: int, step: int) -> Generator[WindowBatch, None, None]:
        """Reads, decodes and cuts, from a step of an epoch on."""
        order = EpochOrder(
            [shard.pairs for shard in self.dataset.manifest.shards],
            seed=self.seed,
            epoch=epoch,
            lanes=self.lanes,
            block=self.block,
            window=self.window,
        )
        cutter = WindowCutter(self.augment, side=self.centre_crop, seed=self.seed, epoch=epoch)
        with _threads(self.threads) as readers, _threads(self.threads) as decoders:
            samples = self._samples(order, step, readers)
            cuts = map_ahead(cutter, samples, decoders, ahead=2 * self.threads)
            for places in order.positions(self.rank, self.world_size, self.global_batch, step):
                valid = sum(place < order.pairs for place in places)
                yield collate([next(cuts) for _ in range(valid)], len(places), cutter.side)

    def _samples(self, order: EpochOrder, step: int, readers: ThreadPoolExecutor) -> Iterator[Sample]:
        """The rank's samples after the user's stages, each checked to stand in its place."""
        from webdataset import DataPipeline

        position = step * self.global_batch

        def read() -> Iterator[Sample]:
            return read_samples(
                self.dataset,
                order,
                rank=self.rank,
                world_size=self.world_size,
                position=position,
                pool=readers,
                read_ahead_bytes=self.read_ahead_mb << 20,
            )

        places = range(position + self.rank, order.pairs, self.world_size)
        samples = iter(DataPipeline(read, *self.stages))
        for place in places:
            sample = next(samples, None)
            _check_place(sample, f"position {place}")
            assert sample is not None
            yield sample
        _check_place(next(samples, None), "nothing")

    def _to_device(self, batch: WindowBatch) -> Batch:
        """Moves a batch to the device, through pinned memory to a GPU, and turns its windows there."""
        on_gpu = self.device.type == "cuda"
        windows, mask, rotation, flip = (
            (tensor.pin_memory() if on_gpu else tensor).to(self.device, non_blocking=True)
            for tensor in (batch.windows_BPCHW, batch.mask_B, batch.rotation_B, batch.flip_B)
        )
        return Batch(images=turn(windows, rotation, flip), mask=mask, keys=batch.keys)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose end waits for what runs, and drops what has not begun."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


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


def _check_arguments(counts: dict[str, int], rank: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name}={value}, expected at least 1")
    if not 0 <= rank < counts["world_size"]:
        raise UserError(f"rank={rank}, expected 0 <= rank < world_size={counts['world_size']}")
