"""`PairLoader`: aligned pairs out of packed shards, for any trainer.

loader = PairLoader("data/mine/train", batch_size=32, seed=0, rank=rank, world_size=world)
for batch in loader:                     # one epoch
    x = batch.images[batch.mask]         # (B, 2, 3, 96, 96) uint8: real, fake
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, get_args

import torch

from pack.dataset.dataset import Dataset
from pack.dataset.selection import Selection, select
from pack.storage import Retry
from recon.base.errors import UserError
from train.augment.pipeline import PairAugment
from train.draws.config import AugmentConfig
from train.loader.reader import BatchReader, LoaderPlan, SourcePlan, Stage
from train.loader.transfer import Batch, Transfer
from train.loader.worker import Worker
from train.order.epoch import check_world
from train.stream.samples import Fakes
from train.window.masked_batch import WindowBatch

Choice = Callable[[Dataset], Selection]
Decode = Literal["auto", "host", "device"]


class PairLoader:
    """Iterates over the epochs of a packed dataset: each pair exactly once, equal steps on all ranks.

    Each ``for batch in loader`` is the rest of the current epoch; the next one continues with the
    next epoch. The pairs of each step depend on the dataset, the seed and the global batch
    alone (see `train.order.epoch`), not on ranks, workers or threads.

    A pair that is damaged in the storage is never half used: its slot is masked and `Batch.damaged`
    names it. The caller decides what to do about it (`train.loop.quarantine`).

    Args:
        url: directory or URL of a packed dataset, or a mapping of several to their weights: how often
            an epoch sees each pair, e.g. ``{"s3://b/one": 1, "s3://b/two": 0.5}``.
        batch_size: pairs per step of this rank; the global batch is batch_size x world_size.
        seed: of the order and of the augmentation.
        rank: of this process, 0..world_size-1.
        world_size: divides `lanes`.
        augment: the recipe, by default the paper's; without Kornia's ops, which `train.augment.final` has.
            None gives clean centre crops. With several `AugmentConfig.views` a batch has so many rows for
            each of its pairs (see `Batch`): a pair is read and decoded once, and has the same fake in all
            of its views.
        centre_crop: side of the centre crop, where augment is None.
        filter: takes only pairs whose index columns say so, e.g. ``width >= 256 and group == "coco"``
            (see `pack.dataset.filter`); or a function that makes the selection of each dataset.
        fakes: of datasets with several fakes of one photograph: drawn, one at each visit, by seed, epoch and
            pair; or always the first. A filter by ``autoencoder``, say, leaves those fakes alone.
        lanes: readers that work side by side (see `train.order`). Lanes, block and window change the order.
        block: pairs read together.
        window: blocks of a lane that are shuffled together: the shuffle window.
        workers: 1 reads and decodes in a process beside this one, started at the first batch or by `start`;
            0 in this one, to debug. Both give the same bytes.
        threads: decoding threads.
        reads: requests to storage at once.
        read_ahead_mb: MiB read ahead of need. The loader holds about this, plus some 150 MiB, plus
            lanes / world_size x window x block stored pairs, plus 4 batches of windows, which have
            batch_size x views x 2 of them.
        deadline_s: seconds for a block to arrive, all attempts together.
        cache_dir: local folder that keeps blocks; all processes that name the same folder share it.
        cache_gb: most that it may hold, in GB.
        device: where the batches go.
        decode: who makes the pixels of baseline JPEGs that have entry points in the index. device: the host
            undoes their Huffman coding, the device does the rest for all windows of a batch together; host:
            the host does all. auto: the device if it is a GPU. The pixels are the same.
        stages: WebDataset stages such as ``wds.map(f)`` between reading and decoding, one sample in,
            one out: their number and order are checked. They go to the worker pickled, so they must
            come from a module, not from the script that is run.

    Raises:
        UserError: no dataset is there, the world size does not divide lanes, or a number is out of
            its range.
    """

    def __init__(
        self,
        url: str | Mapping[str, float],
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        augment: AugmentConfig | None = AugmentConfig(),  # noqa: B008 - frozen
        centre_crop: int = 256,
        filter: str | Choice | None = None,
        fakes: Fakes = "drawn",
        lanes: int = 192,
        block: int = 16,
        window: int = 3,
        workers: int = 1,
        threads: int = 2,
        reads: int = 4,
        read_ahead_mb: int = 64,
        deadline_s: float = 60.0,
        cache_dir: str | None = None,
        cache_gb: float = 100.0,
        device: str | torch.device = "cpu",
        decode: Decode = "auto",
        stages: Sequence[Stage] = (),
    ) -> None:
        counts = {"batch_size": batch_size, "world_size": world_size, "lanes": lanes, "block": block}
        counts |= {"window": window, "threads": threads, "reads": reads, "read_ahead_mb": read_ahead_mb}
        _check_arguments(counts | {"centre_crop": centre_crop}, rank, workers)
        self.global_batch = batch_size * world_size
        _check_choices(augment, fakes, decode)
        self.device = torch.device(device)
        check_world(world_size=world_size, lanes=lanes, global_batch=self.global_batch)
        self.plan = LoaderPlan(
            sources=_plan_sources(url, filter, deadline_s),
            rank=rank,
            world_size=world_size,
            batch_size=batch_size,
            seed=seed,
            lanes=lanes,
            block=block,
            window=window,
            augment=augment,
            centre_crop=centre_crop,
            threads=threads,
            reads=reads,
            read_ahead_mb=read_ahead_mb,
            deadline_s=deadline_s,
            cache_dir=cache_dir,
            cache_gb=cache_gb,
            fakes=fakes,
            on_device=decode == "device" or (decode == "auto" and self.device.type == "cuda"),
            stages=tuple(stages),
        )
        self.pairs = sum(source.ordered().epoch_pairs for source in self.plan.sources)
        self.workers = workers
        self.epoch = self.step = self._loops = 0
        self._host: BatchReader | None = None
        self._transfer = Transfer(PairAugment(augment, seed) if augment else None, self.device)
        self._worker: Worker | None = None

    def __len__(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        return -(-self.pairs // self.global_batch)

    def set_epoch(self, epoch: int) -> None:
        """Starts the given epoch (from 0) at its first step."""
        self.epoch, self.step = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the trainer is: the batches that it was given count as consumed, those read ahead do not."""
        return self._order_facts() | {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where a `state_dict` was taken, on this or another world size.

        Raises:
            UserError: the state is of another dataset, filter, seed or order.
        """
        for name, value in self._order_facts().items():
            if state.get(name) != value:
                raise UserError(
                    f"state has {name}={state.get(name)!r}, this loader {value!r}; the order would change"
                )
        self.epoch, self.step = state["epoch"], state["step"]

    def _order_facts(self) -> dict[str, Any]:
        return {
            "manifests": [source.manifest.sha256 for source in self.plan.sources],
            "weights": [source.weight for source in self.plan.sources],
            "filters": [source.selection and source.selection.sha256 for source in self.plan.sources],
            "seed": self.plan.seed,
            "global_batch": self.global_batch,
            "lanes": self.plan.lanes,
            "block": self.plan.block,
            "window": self.plan.window,
        }

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch."""
        epoch, first = self.epoch, self.step
        self._loops = loop = self._loops + 1
        with closing(self._batches(epoch, first)) as batches:
            for number, batch in enumerate(self._transfer(epoch, batches), first + 1):
                # Before the batch is given: a trainer that saves a state while it works on this batch has
                # consumed it.
                over = number == len(self)
                self.epoch, self.step = (epoch + 1, 0) if over else (epoch, number)
                yield batch
                # Another loop has taken the worker, and `self.epoch` and `self.step` are that one's now.
                if loop != self._loops:
                    raise UserError("the loader was started anew while this loop still ran; use two loaders")

    def start(self) -> None:
        """Starts the worker on the current epoch now, so that it reads while the caller builds a model, say.

        The first loop does it otherwise. With `workers=0` nothing can run beside the caller.
        """
        if self.workers and not self._worker:
            self._worker = Worker(self.plan)
            self._worker.start(self.epoch, self.step)

    def _batches(self, epoch: int, step: int) -> Generator[WindowBatch, None, None]:
        if self._worker and not self._worker.lives:  # a new loop is a new try
            self.close()
        if self.workers:
            self._worker = self._worker or Worker(self.plan)
            return self._worker.batches(epoch, step)
        self._host = self._host or BatchReader(self.plan)
        return self._host.batches(epoch, step, self.plan.room.slot)

    def close(self) -> None:
        """Ends the worker, if there is one; the next loop starts another."""
        if self._worker:
            self._worker.close()
            self._worker = None


def _check_choices(augment: object, fakes: object, decode: object) -> None:
    """Refuses a recipe that would be ignored or fail later, and unknown words."""
    for name, word, choices in (("fakes", fakes, get_args(Fakes)), ("decode", decode, get_args(Decode))):
        if word not in choices:
            raise UserError(f"{name}={word!r}, expected {' or '.join(choices)}")
    if not isinstance(augment, AugmentConfig | None):
        raise UserError(
            f"augment={augment!r}, expected an AugmentConfig or None; "
            "train.draws.config.load_recipe makes one of a recipe's name"
        )
    if augment and augment.kornia:
        raise UserError(
            "the loader gives uint8 crops, and augment.kornia works on floats after it: give the loader "
            "dataclasses.replace(augment, kornia=[]), and its images to train.augment.final.final_ops(...)"
        )


def _plan_sources(
    url: str | Mapping[str, float], wanted: str | Choice | None, deadline_s: float
) -> tuple[SourcePlan, ...]:
    """Reads the manifests; a filter scans the indexes once."""
    weights = {url: 1.0} if isinstance(url, str) else url
    if not weights:
        raise UserError("no dataset is named, expected a URL or a mapping of URLs to weights")
    sources: list[SourcePlan] = []
    for one, weight in weights.items():
        dataset = Dataset(one, retry=Retry(deadline_s=deadline_s))
        same = next(
            (other.url for other in sources if other.manifest.sha256 == dataset.manifest.sha256), None
        )
        if same is not None:
            raise UserError(f"{one} and {same} are one dataset; name it once, with the sum of the weights")
        selection = select(dataset, wanted) if isinstance(wanted, str) else wanted and wanted(dataset)
        sources.append(
            SourcePlan(url=one, manifest=dataset.manifest, weight=float(weight), selection=selection)
        )
    return tuple(sources)


def _check_arguments(counts: dict[str, int], rank: int, workers: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name}={value}, expected at least 1")
    if not 0 <= rank < counts["world_size"]:
        raise UserError(f"rank={rank}, expected 0 <= rank < world_size={counts['world_size']}")
    if workers not in (0, 1):
        raise UserError(f"workers={workers}, expected 1 (a process of its own) or 0 (none)")
