"""Small packed datasets and the loaders of a world, for the tests of the loader and the trainer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pack.base.config import CodecPolicy, PackConfig
from pack.publish.packing import pack
from recon.image.codec import Picture, Pixels, encode
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader

Steps = list[dict[str, torch.Tensor]]  # for each step, a pair's images by key

SIZES = [(40, 56), (33, 48), (17, 23), (64, 31)]
"""Heights and widths in turn; the third is smaller than the crops of the tests."""


def photograph(number: int, size: tuple[int, int]) -> Pixels:
    """Smooth colours with a little noise (H, W, 3)."""
    rng = np.random.default_rng(number)
    y, x, _ = np.mgrid[: size[0], : size[1], :1]
    waves = 127 + 90 * np.sin(x / rng.uniform(3, 9, 3) + y / rng.uniform(3, 9, 3))
    return (waves + rng.integers(0, 20, (*size, 3))).astype(np.uint8)


def put_png(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels, Picture(pixels=pixels, codec="png"), "png"))


def make_dataset(
    folder: Path,
    *,
    pairs: int,
    shard_pairs: int,
    size: tuple[int, int] | None = None,
    start: int = 0,
    codec: CodecPolicy = "lossless-png",
) -> str:
    """Packs pairs whose reconstructions lie some grey levels off; returns the dataset's path.

    Args:
        folder: a new one.
        pairs: how many.
        shard_pairs: of all shards but the last.
        size: of every image, by default `SIZES` in turn.
        start: number of the first photograph, so that two datasets share none.
        codec: of both images.
    """
    for number in range(start, start + pairs):
        pixels = photograph(number, size or SIZES[number % len(SIZES)])
        put_png(folder / f"real/{number:03}.png", pixels)
        put_png(folder / f"fake/{number:03}.png", pixels ^ 4)
    out = str(folder / "packed")
    config = PackConfig(
        source=str(folder / "real"),
        reconstructions=str(folder / "fake"),
        out=out,
        shard_pairs=shard_pairs,
        codec=codec,
    )
    pack(config)
    return out


def make_sets(
    folder: Path,
    *,
    pairs: int,
    size: tuple[int, int],
    val_pairs: int = 3,
    val_size: tuple[int, int] | None = None,
) -> dict[str, str]:
    """Datasets for training and validation without a photograph in common; their paths by ``train``, ``val``.

    Args:
        folder: a new one.
        pairs: of training.
        size: of every image.
        val_pairs: of validation.
        val_size: of its images, by default `size`.
    """
    val = make_dataset(folder / "val", pairs=val_pairs, shard_pairs=4, size=val_size or size, start=500)
    return {"train": make_dataset(folder / "train", pairs=pairs, shard_pairs=8, size=size), "val": val}


PAIRS = 47  # in shards of 11, 11, 11, 11, 3: divided by no batch, block or lane count of the tests
GLOBAL_BATCH = 6
AUGMENT = AugmentConfig(crop=24, resized_crop_p=0.3)
ORDER: dict[str, Any] = {"lanes": 6, "block": 2, "window": 2, "seed": 5, "augment": AUGMENT}


def world(url: str | dict[str, float], size: int, **options: Any) -> list[PairLoader]:
    """The loaders of all ranks, by default in this process, with one global batch whatever the size."""
    options = {**ORDER, "workers": 0, "batch_size": GLOBAL_BATCH // size, **options}
    return [PairLoader(url, rank=rank, world_size=size, **options) for rank in range(size)]


def interleaved(ranks: list[list[Any]]) -> list[Any]:
    """What the ranks hold, in the order of the positions; ranks differ in length by one at most."""
    rows = max(map(len, ranks))
    return [rank[row] for row in range(rows) for rank in ranks if row < len(rank)]


def steps_of(loaders: list[PairLoader]) -> Steps:
    """The rest of the epoch: for each step, images by key in the order of positions, over all ranks."""
    steps = []
    for batches in zip(*loaders, strict=True):
        keys = interleaved([batch.keys for batch in batches])
        images = interleaved([list(batch.images[batch.mask]) for batch in batches])
        steps.append(dict(zip(keys, images, strict=True)))
    return steps


def assert_equal(found: Steps, expected: Steps) -> None:
    assert [list(step) for step in found] == [list(step) for step in expected]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
