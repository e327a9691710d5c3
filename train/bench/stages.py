"""Measures the ways to augment that `train.bench` compares, and the time of each stage.

All ways get the same pairs, batch by batch in turn, so that other load on the machine affects all of them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
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
from train.bench.clock import Clock, Spent
from train.draws.config import AugmentConfig
from train.draws.parameters import view_ids, visit_ids
from train.model.normalize import normalize
from train.stream.samples import sample_of
from train.window.cutter import Drawn, WindowCutter
from train.window.masked_batch import Views, collate

Result = TypeVar("Result")
Place = tuple[int, int, int]  # shard and row of a pair, and the number of the visit

_BLOCK = 16  # pairs that are read together; the default of the loader


@dataclass(kw_only=True)
class Measured:
    """The results of a measurement."""

    pairs: int = 0
    pixels: int = 0
    """Number of pixels of all real images."""
    ways: dict[str, Spent] = field(default_factory=dict)
    """The time of ``pipeline``, ``decoding`` and, if asked for, ``whole`` and ``oracle``."""
    stages: dict[str, Spent] = field(default_factory=dict)
    """The time of each stage of the pipeline."""
    shares: list[float] = field(default_factory=list)
    """Which share of an image was decoded, 0 to 1, each time that something was."""
    bytes: list[tuple[int, int]] = field(default_factory=list)
    """Of each pair, how many bytes of its members were read, and how many are stored."""
    palette: list[float] = field(default_factory=list)
    """For some images: the difference of the palette's mean grey from the whole image's, in levels."""


class _Line:
    """What the pairs of a way go through.

    Args:
        augment: the recipe.
        seed: of the draws.
        clock: of the stages.
        measured: gets the shares that are decoded.
    """

    def __init__(self, augment: AugmentConfig, seed: int, clock: Clock, measured: Measured) -> None:
        self.clock, self._shares, self.sizes = clock, measured.shares, measured.bytes
        self.augment = PairAugment(augment, seed, clock)
        self.cutter = WindowCutter(augment, side=augment.crop, seed=seed, epoch=0, watch=self)

    def timer(self, name: str) -> AbstractContextManager[object]:
        """See `train.window.images.Watch`."""
        return self.clock(name)

    def decoded(self, share: float) -> None:
        """See there."""
        self._shares.append(share)

    def cut(self, drawn: Drawn | DamagedPair) -> Views:
        """The windows of a pair."""
        with self.clock("window"):
            cut = self.cutter(drawn)
        if isinstance(cut, DamagedPair):
            raise UserError(f"{cut.url}: {cut.key}: {cut.cause}; run python -m pack.verify")
        return cut


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
        self.plain = dataset
        self.dataset = Dataset(
            dataset.store.url, manifest=dataset.manifest, hints=True, partly=True
        )  # as loaders
        self.augment, self.device, self.seed = augment, device, seed
        self.threads = threads
        # Without a pool for one thread: its CPU time is then measured on the main thread.
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._final_ops = final_ops(augment, seed, rank=0)
        self.reset()

    def reset(self) -> None:
        """Deletes all measurements."""
        self.measured = Measured()
        self._line = self._line_of(self.measured)
        self._undivided = self._line_of(Measured())

    def _line_of(self, measured: Measured) -> _Line:
        clock = Clock(self._finish, self.threads)
        measured.stages = clock.stages
        return _Line(self.augment, self.seed, clock, measured)

    def compare_greys(self, places: Sequence[Place]) -> None:
        """Compares the mean grey of the palette, which the contrast op uses, with the whole image's."""
        for place in places:
            pixels = decode_rgb(self._read([place], self.plain)[0].real)
            self.measured.palette.append(abs(mean_grey(palette(pixels)[None]) - mean_grey(pixels)))

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def round(self, places: Sequence[Place], number: int, *, more: Sequence[str] = ()) -> None:
        """Runs ways on the same pairs; each round begins with another way.

        Args:
            places: of the pairs.
            number: of the round.
            more: ways beside ``pipeline`` and ``decoding``: ``whole``, ``oracle``.
        """
        ways = ("pipeline", "decoding", *more)
        # In turns, because the first way may read the pairs from disk and the others from the page cache.
        for name in islice(cycle(ways), number % len(ways), number % len(ways) + len(ways)):
            getattr(self, name)(places)
        self.measured.pairs += len(places)

    def pipeline(self, places: Sequence[Place]) -> None:
        """The trainer's pipeline: windows are cut, then augmented on the device."""
        with self._timed("pipeline"):
            self._augmented(places, self._line)

    def whole(self, places: Sequence[Place]) -> None:
        """The same without hints: each image is decoded whole."""
        with self._timed("whole"):
            self._augmented(places, self._undivided)

    def _augmented(self, places: Sequence[Place], line: _Line) -> None:
        with line.clock("read"):
            pairs = self._read(places, self.plain if line is self._undivided else self.dataset)
            samples = [sample_of(pair, copy, 0) for pair, (*_, copy) in zip(pairs, places, strict=True)]
        with line.clock("draws"):
            drawn = list(line.cutter.drawn(samples))
        cuts = self._map(line.cut, drawn)
        line.sizes += map(_sizes, pairs)
        side, rows = self.augment.window_side, len(cuts) * self.augment.views
        with line.clock("collate"):
            batch = collate(cuts, np.empty((rows, 2, side, side, 3), np.uint8))
        with line.clock("transfer"):
            windows = torch.from_numpy(batch.windows_BPHWC).to(self.device)
        images = line.augment(0, windows, batch.ids_B, batch.frames_B, batch.grey_BP)
        if self.augment.kornia:
            with line.clock("kornia"):
                images = self._final_ops(images, 0)
        with line.clock("normalise"):
            normalize(images.flatten(0, 1))

    def oracle(self, places: Sequence[Place]) -> None:
        """The published pipeline on whole images."""

        def augmented(pair: StoredPair, place: Place) -> Pixels:
            real, fake = decode(pair.real), decode(pair.fake)
            visits = visit_ids(np.array([pair.pair_id], np.uint64).view(np.int64), place[-1])
            ids = view_ids(visits, self.augment.views)[0].tolist()
            return np.stack([oracle(real, fake, self.augment, self.seed, 0, one) for one in ids])

        with self._timed("oracle"):
            images_BPHWC = np.concatenate(self._map(augmented, self._read(places, self.plain), places))
            normalize(torch.from_numpy(images_BPHWC).flatten(0, 1).movedim(-1, 1))

    def decoding(self, places: Sequence[Place]) -> None:
        """Decoding only, of pairs in memory."""
        pairs = self._read(places, self.plain)  # before the clock starts: reading is not part of it
        with self._timed("decoding"):
            self.measured.pixels += sum(self._map(_decoded, pairs))

    @contextmanager
    def _timed(self, way: str) -> Iterator[None]:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        spent = self.measured.ways.setdefault(way, Spent())
        spent.wall_s += time.perf_counter() - wall_s
        spent.cpu_s += time.process_time() - cpu_s

    def _map(self, function: Callable[..., Result], *items: Iterable[Any]) -> list[Result]:
        return list(self._pool.map(function, *items) if self._pool else map(function, *items))

    def _read(self, places: Sequence[Place], dataset: Dataset) -> list[StoredPair]:
        pairs: list[StoredPair] = []
        for (shard, _), group in groupby(places, key=lambda place: (place[0], place[2])):
            rows = np.array([row for _, row, _ in group])
            # One read for each run of consecutive rows, as in the loader.
            for part in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
                pairs += map(sound, dataset.read_block(shard, int(part[0]), len(part)))
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


def _sizes(pair: StoredPair) -> tuple[int, int]:
    """The bytes of a pair's members that were read, and all of them."""
    whole, parts = sum(map(len, pair.members.values())), pair.ranged.values()
    return whole + sum(one.taken for one in parts), whole + sum(one.size for one in parts)


def _decoded(pair: StoredPair) -> int:
    """Decodes a pair; returns the number of pixels of one image."""
    real, fake = decode_rgb(pair.real), decode_rgb(pair.fake)
    return (real.size + fake.size) // 6  # two images of three channels
