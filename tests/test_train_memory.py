"""What a loader holds: flat over the epochs, and within what its options say."""

import os
import statistics
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from s3_server import S3Env, upload
from train_data import put_png

from pack.base.config import PackConfig
from pack.publish.packing import pack
from train.loader.loader import PairLoader
from train.loader.messages import SLOTS

GROWTH_MB = 12  # over 12 epochs; one pair in 50 that is never let go of would add 13
PAIRS, SIDE = 240, 200  # 240 KB a pair, noise being incompressible
SPARE_MB = 24  # of the allocators; a loader that held the whole dataset would take 55 more
pytestmark = pytest.mark.timeout(1200)  # twenty epochs take long on a machine that is shared

OPTIONS = {"lanes": 8, "block": 4, "window": 2, "read_ahead_mb": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return noise(tmp_path_factory.mktemp("noise"), PAIRS, SIDE)


@pytest.fixture(scope="module")
def empty_mb(tmp_path_factory: pytest.TempPathFactory) -> float:
    """MiB of a worker that holds next to nothing: its libraries and batches, on this machine."""
    return max(max(epoch) for epoch in sizes_of(noise(tmp_path_factory.mktemp("few"), 16, 96), epochs=2))


def noise(folder: Path, pairs: int, side: int) -> str:
    """Packs pairs of noise; returns the dataset."""
    rng = np.random.default_rng(0)
    for number in range(pairs):
        for half in ("real", "fake"):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            put_png(folder / half / f"{number:03}.png", pixels)
    out = str(folder / "packed")
    source, fakes = str(folder / "real"), str(folder / "fake")
    pack(PackConfig(source=source, reconstructions=fakes, out=out, shard_pairs=50, codec="lossless-png"))
    return out


def resident(pid: int) -> float:
    """MiB, the pages of the shared windows included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def sizes_of(url: str, epochs: int) -> list[list[float]]:
    """MiB of the worker at each batch, by epoch."""
    with closing(PairLoader(url, **OPTIONS)) as loader:  # type: ignore[arg-type]
        return [[resident(worker_of(loader)) for _batch in loader] for _ in range(epochs)]


def worker_of(loader: PairLoader) -> int:
    assert loader._worker
    return loader._worker._process.pid


def test_the_worker_stays_flat_over_20_epochs_and_within_its_options(url: str, empty_mb: float) -> None:
    check_memory(url, empty_mb)


@pytest.mark.soak
def test_soak_so_it_does_when_it_reads_from_a_bucket(url: str, empty_mb: float, s3_env: S3Env) -> None:
    check_memory(upload(s3_env.server, Path(url), s3_env.url), empty_mb)


def check_memory(url: str, empty_mb: float) -> None:
    epochs = sizes_of(url, epochs=20)
    sizes = [statistics.median(moments) for moments in epochs]
    # How much waits at a moment depends on which side is faster; growth over the epochs does not.
    early, late = statistics.median(sizes[2:8]), statistics.median(sizes[-6:])
    assert late - early < GROWTH_MB, sizes
    pair = 2 * SIDE * SIDE * 3 / 2**20
    held = OPTIONS["read_ahead_mb"] + OPTIONS["lanes"] * OPTIONS["window"] * OPTIONS["block"] * pair
    held += (SLOTS - 1) * OPTIONS["batch_size"] * 2 * 152**2 * 3 / 2**20  # the empty worker filled one slot
    assert max(map(max, epochs)) - empty_mb < held + SPARE_MB, (empty_mb, sizes)
    sys.stdout.write(
        f"worker, MiB: {empty_mb:.0f} without pairs; {' '.join(f'{size:.0f}' for size in sizes)}\n"
    )
