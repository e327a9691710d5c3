"""What a loader holds: flat over the epochs, and within what its options say."""

import os
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from s3_server import S3Env, upload
from train_data import put_png

from pack.base.config import PackConfig
from pack.publish.packing import pack
from train.loader.loader import PairLoader

GROWTH_MB = 12  # over 12 epochs; one pair in 50 that is never let go of would add 13
PAIRS, SIDE = 240, 200  # 240 KB a pair, noise being incompressible
pytestmark = pytest.mark.timeout(1200)  # twenty epochs take long on a machine that is shared

OPTIONS = {"lanes": 8, "block": 4, "window": 2, "read_ahead_mb": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for number in range(PAIRS):
        for half in ("real", "fake"):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            put_png(folder / half / f"{number:03}.png", pixels)
    out = str(folder / "packed")
    source, fakes = str(folder / "real"), str(folder / "fake")
    pack(PackConfig(source=source, reconstructions=fakes, out=out, shard_pairs=50, codec="lossless-png"))
    return out


def resident(pid: int) -> float:
    """MiB, the pages of the shared windows included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_the_worker_stays_flat_over_20_epochs_and_within_its_options(url: str) -> None:
    check_memory(url)


@pytest.mark.soak
def test_soak_so_it_does_when_it_reads_from_a_bucket(url: str, s3_env: S3Env) -> None:
    check_memory(upload(s3_env.server, Path(url), s3_env.url))


def check_memory(url: str) -> None:
    loader = PairLoader(url, **OPTIONS)  # type: ignore[arg-type]
    sizes, most = [], 0.0
    for _ in range(20):
        moments = []
        for _batch in loader:
            assert loader._worker
            moments.append(resident(loader._worker._process.pid))
        sizes.append(statistics.median(moments))
        most = max(most, *moments)
    loader.close()
    # How much waits at a moment depends on which side is faster; growth over the epochs does not.
    early, late = statistics.median(sizes[2:8]), statistics.median(sizes[-6:])
    assert late - early < GROWTH_MB, sizes
    pair, batch = 2 * SIDE * SIDE * 3 / 2**20, 16 * 2 * 96 * 96 * 3 / 2**20
    assert most < 4 + 8 * 2 * 4 * pair + 4 * batch + 150, sizes
    sys.stdout.write(f"worker, MiB: {' '.join(f'{size:.0f}' for size in sizes)}\n")
