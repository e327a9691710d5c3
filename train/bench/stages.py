"""Measures the ways to augment that `train.bench` compares, and the time of each stage.

All ways get the same pairs, batch by batch in turn, so that other load on the machine affects all of them.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, groupby, islice
from typing import Any, TypeVar

import numpy as np
import torch

from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair, StoredPair, sound
from pack.shard.manifest import Manifest
from recon.base.device import prepare_cpu
from recon.base.errors import UserError
from recon.image.codec import Pixels, decode_rgb
from recon.image.colours import palette
from train.augment.final import final_ops
from train.augment.oracle import decode, mean_grey, oracle
from train.augment.pipeline import PairAugment
from train.draws.config import AugmentConfig
from train.draws.parameters import view_ids, visit_ids
from train.model.normalize import normalize
from train.stream.samples import sample_of
from train.window.cutter import Drawn, WindowCutter
from train.window.masked_batch import Views, collate

Result = TypeVar("Result")
Place = tuple[int, int, int]  # shard and row of a pair, and the number of the visit

_BLOCK = 16  # pairs that are read together; the default of the loader


@dataclass
class Spent:
    """The time that a stage or way has taken so far."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


class Clock:
    """Adds up the time of stages by name.

    On a thread of the pool, CPU time is that of the thread. On the main thread it is that of the whole
    process, so that torch's own threads count; nothing else runs at that time.

    Args:
        finish: waits until the device has finished its work.
        threads: number of threads in the pool. They work in parallel, so a second of one of them counts as
            1 / threads of a second.
    """

    def __init__(self, finish: Callable[[], None], threads: int = 1) -> None:
        self.stages: dict[str, Spent] = {}
        self._finish, self._threads, self._lock = finish, threads, threading.Lock()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Context manager: adds the time inside to the stage."""
        is_main = threading.current_thread() is threading.main_thread()
        cpu = time.process_time if is_main else time.thread_time
        wall_s, cpu_s = time.perf_counter(), cpu()
        yield
        if is_main:
            self._finish()  # GPU kernels run asynchronously
        wall_s, cpu_s = time.perf_counter() - wall_s, cpu() - cpu_s
        with self._lock:  # threads of the pool end stages at the same time
            spent = self.stages.setdefault(name, Spent())
            spent.wall_s += wall_s if is_main else wall_s / self._threads
            spent.cpu_s += cpu_s


@dataclass(kw_only=True)
class Measured:
    """The results of a measurement."""

    pairs: int = 0
    pixels: int = 0
    """Number of pixels of all real images."""
    ways: dict[str, Spent] = field(default_factory=dict)
    """The time of ``pipeline``, ``decoding`` and, if asked for, ``oracle``."""
    stages: dict[str, Spent] = field(default_factory=dict)
    """The time of each stage of the pipeline."""
    palette: list[float] = field(default_factory=list)
    """For some images: the difference of the palette's mean grey from the whole image's, in levels."""


class Bench:
    """Augments stored pairs in several ways.

    Args:
        dataset: holds the pairs.
        augment: the recipe.
        threads: for decoding and for torch; with 1 everything runs on the main thread.
        device: of the pipeline.
        seed: of the draws.
    """

    def __init__(
        self, dataset: Dataset, augment: AugmentConfig, *, threads: int, device: torch.device, seed: int
    ) -> None:
        prepare_cpu(threads)
        self.dataset, self.augment, self.device, self.seed = dataset, augment, device, seed
        self.threads = threads
        # Without a pool for one thread: its CPU time is then measured on the main thread.
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._final_ops = final_ops(augment, seed, rank=0)
        self._cutter = WindowCutter(augment, side=augment.crop, seed=seed, epoch=0)
        self.reset()

    def reset(self) -> None:
        """Deletes all measurements."""
        self.clock, self.measured = Clock(self._finish, self.threads), Measured()
        self._augment = PairAugment(self.augment, self.seed, self.clock)

    def compare_greys(self, places: Sequence[Place]) -> None:
        """Compares the mean grey of the palette, which the contrast op uses, with the whole image's."""
        for place in places:
            pixels = decode_rgb(self._read([place])[0].real)
            self.measured.palette.append(abs(mean_grey(palette(pixels)[None]) - mean_grey(pixels)))

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def round(self, places: Sequence[Place], number: int, *, with_oracle: bool) -> None:
        """Runs every way on the same pairs; each round begins with another way."""
        ways: dict[str, Callable[[Sequence[Place]], None]] = {
            "pipeline": self.pipeline,
            "decoding": self.decoding,
        }
        if with_oracle:
            ways["oracle"] = self.oracle
        # In turns, because the first way may read the pairs from disk and the others from the page cache.
        for name in islice(cycle(ways), number % len(ways), number % len(ways) + len(ways)):
            ways[name](places)
        self.measured.pairs += len(places)
        self.measured.stages = self.clock.stages

    def pipeline(self, places: Sequence[Place]) -> None:
        """The trainer's pipeline: windows are cut, then augmented on the device."""
        with self._timed("pipeline"):
            with self.clock("read"):
                pairs = zip(self._read(places), places, strict=True)
                samples = [sample_of(pair, copy, 0) for pair, (_, _, copy) in pairs]
            with self.clock("draws"):
                drawn = list(self._cutter.drawn(samples))
            cuts = self._map(self._cut, drawn)
            side, rows = self.augment.window_side, len(cuts) * self.augment.views
            with self.clock("collate"):
                batch = collate(cuts, np.empty((rows, 2, side, side, 3), np.uint8))
            with self.clock("transfer"):
                windows = torch.from_numpy(batch.windows_BPHWC).to(self.device)
            images = self._augment(0, windows, batch.ids_B, batch.frames_B, batch.grey_BP)
            if self.augment.kornia:
                with self.clock("kornia"):
                    images = self._final_ops(images, 0)
            with self.clock("normalise"):
                normalize(images.flatten(0, 1))

    def oracle(self, places: Sequence[Place]) -> None:
        """The published pipeline on whole images."""

        def augmented(pair: StoredPair, place: Place) -> Pixels:
            real, fake = decode(pair.real), decode(pair.fake)
            visits = visit_ids(np.array([pair.pair_id], np.uint64).view(np.int64), place[-1])
            ids = view_ids(visits, self.augment.views)[0].tolist()
            return np.stack([oracle(real, fake, self.augment, self.seed, 0, one) for one in ids])

        with self._timed("oracle"):
            images_BPHWC = np.concatenate(self._map(augmented, self._read(places), places))
            normalize(torch.from_numpy(images_BPHWC).flatten(0, 1).movedim(-1, 1))

    def decoding(self, places: Sequence[Place]) -> None:
        """Decoding only, of pairs in memory."""
        pairs = self._read(places)  # before the clock starts: reading is not part of it
        with self._timed("decoding"):
            self.measured.pixels += sum(self._map(_decoded, pairs))

    def _cut(self, drawn: Drawn | DamagedPair) -> Views:
        with self.clock("decode+window"):
            cut = self._cutter(drawn)
        if isinstance(cut, DamagedPair):
            raise UserError(f"{cut.url}: {cut.key}: {cut.cause}; run python -m pack.verify")
        return cut

    @contextmanager
    def _timed(self, way: str) -> Iterator[None]:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        spent = self.measured.ways.setdefault(way, Spent())
        spent.wall_s += time.perf_counter() - wall_s
        spent.cpu_s += time.process_time() - cpu_s

    def _map(self, function: Callable[..., Result], *items: Iterable[Any]) -> list[Result]:
        return list(self._pool.map(function, *items) if self._pool else map(function, *items))

    def _read(self, places: Sequence[Place]) -> list[StoredPair]:
        pairs: list[StoredPair] = []
        for (shard, _), group in groupby(places, key=lambda place: (place[0], place[2])):
            rows = np.array([row for _, row, _ in group])
            # One read for each run of consecutive rows, as in the loader.
            for part in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
                pairs += map(sound, self.dataset.read_block(shard, int(part[0]), len(part)))
        return pairs


def places_of(manifest: Manifest, count: int) -> list[Place]:
    """`count` pairs in blocks spread evenly over a dataset; the pairs of a smaller dataset repeat."""
    blocks = [
        (shard, first, min(_BLOCK, entry.pairs - first))
        for shard, entry in enumerate(manifest.shards)
        for first in range(0, entry.pairs, _BLOCK)
    ]
    # Some blocks more than needed, because the last block of each shard may be short.
    wanted = min(len(blocks), -(-count // _BLOCK) + len(manifest.shards))
    chosen = np.linspace(0, len(blocks) - 1, wanted).round().astype(int).tolist()
    spread = [blocks[number] for number in chosen]
    visits = ((block, copy) for copy in range(count) for block in spread)
    rows = ((shard, first + row, copy) for (shard, first, size), copy in visits for row in range(size))
    return list(islice(rows, count))


def _decoded(pair: StoredPair) -> int:
    """Decodes a pair; returns the number of pixels of one image."""
    real, fake = decode_rgb(pair.real), decode_rgb(pair.fake)
    return (real.size + fake.size) // 6  # two images of three channels
