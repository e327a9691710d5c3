"""Items of all kinds, an autoencoder whose batches show in its pixels, and passes over them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph, save
from numpy.typing import NDArray
from pack_runs import identity

from pack.base.config import PackConfig
from pack.base.items import File, Item
from pack.pipeline.decoding import Rejection
from pack.pipeline.maker import PairMaker
from pack.shard.pair import Pair
from recon.models.config import ReconstructionConfig
from recon.models.load import load

Shard = tuple[int, Sequence[Item]]
Results = list[tuple[int, list[Pair | Rejection]]]


class Dimming:
    """Darkens by the number of images in the batch: where another batch was made, other bytes are."""

    def __init__(self) -> None:
        identity = load(ReconstructionConfig(autoencoder="identity"))
        self.provenance = replace(identity.provenance, autoencoder="dimming", downscale=8)
        self.batches: list[tuple[int, ...]] = []
        self.only_side = None

    @property
    def multiple(self) -> int:
        return 8

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        assert len(seeds) == len(x_BCHW)
        self.batches.append(x_BCHW.shape)
        return x_BCHW * np.float32(1 - len(x_BCHW) / 16)


def write_mixture(root: Path) -> Path:
    """Twenty photographs of four sizes and three codecs, every fifth of them broken."""
    for number in range(20):
        height, width = ((24, 32), (32, 24), (64, 48), (9, 7))[number % 4]
        path = root / f"{number:02}.{('png', 'jpg', 'webp')[number % 3]}"
        save(path, photograph(height, width, number))
        if number % 5 == 4:
            path.write_bytes(path.read_bytes()[: number * 3])
    return root


def items_of(root: Path, **fields: Any) -> list[Item]:
    """Every file of a folder as an item."""
    names = sorted(path.name for path in root.iterdir())
    return [Item(path=name, group="g", real=File(str(root), name, None), **fields) for name in names]


def cut(items: Sequence[Item], count: int) -> list[Shard]:
    """Shards of `count` items, with numbers that don't follow each other."""
    return [(2 * start + 1, items[start : start + count]) for start in range(0, len(items), count)]


def config_of(root: Path, **options: Any) -> PackConfig:
    return PackConfig(source=str(root), out="nowhere", **identity(options) | {"threads": 1} | options)


def maker_of(config: PackConfig, *autoencoders: Any) -> PairMaker:
    return PairMaker(config, autoencoders, [asdict(one.provenance) for one in autoencoders])


def made(maker: PairMaker, shards: Iterable[Shard]) -> Results:
    """All results of one pass, whose threads end with it."""
    with maker:
        return [(number, list(results)) for number, results in maker.shards(shards)]


@contextmanager
def tuned(**constants: Any) -> Iterator[None]:
    """Other constants than those of `pack.pipeline.maker` and `pack.pipeline.pipeline`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            module, attribute = name.split("__", 1)
            patch.setattr(f"pack.pipeline.{module}.{attribute}", value)
        yield
