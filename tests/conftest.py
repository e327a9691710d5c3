"""A folder of photographs of every accepted kind, and the dataset that it packs into."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from s3_server import proxy, s3, s3_env  # noqa: F401  # fixtures
from s3_site import site  # noqa: F401  # a fixture

from recon.image.codec import Pixels

# torch's threads that wait for each other sleep: busy waiting beside other tests took most of the CPU time.
# OpenMP reads it as torch is imported, which no import above does; processes that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("no deadlines", deadline=None)  # of an example: a busy machine takes any time
settings.load_profile("no deadlines")

ORIENTATION = 0x0112
PROFILE = b"profile" * 20

SLOWEST = (
    *("train_worker_names", "train_resume", "train_scores", "train_faults", "train_exchange"),
    *("pack_audit_net", "train_run", "pack_s3", "readme", "train_quarantine", "train_world"),
    "train_robustness_kill",
)
"""Files that take longest: begun first, so that at the end no worker is busy alone."""
BITS = (
    "train_null",
    "train_oracle",
    "train_cpu",
    "train_jpeg",
    "train_jitter",
    "train_blur",
    "train_robustness_ops",
    "train_pixel",
    "train_normalize",
    "train_draws",
    "train_degrade",
    "train_loader",
    "train_steps",
    "train_resume.py::test_a_killed_run_ends_with_the_bits",
    "train_run.py::test_an_equal_run",
    "recon_tiling",
    "recon_running",
    "train_evaluate_damage.py::test_side_by_side",
    "train_fakes.py::test_any_world",
    "recon_adapters.py::test_reconstruction_is_the_librarys",
    "recon_adapters.py::test_reconstruction_repeats",
    "pack_packing",
    "pack_ranks",
    "pack_fakes.py::test_any_number_of_ranks",
)
"""What claims equal bits: beginnings of test ids behind ``tests/test_``; they get the marker of this name."""
MOST_WORKERS = 4  # each holds up to 2 GB, and may start an S3 server

Finished = subprocess.CompletedProcess[str]


def pytest_configure(config: pytest.Config) -> None:
    """Repeats the filter of commands and workers (`ignore_odd_metadata`): pytest's process is neither."""
    config.addinivalue_line("filterwarnings", r"ignore:::PIL\.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means: one more than the CPUs, because many tests wait for servers and processes."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what claims equal bits; puts the slowest files first where files are dealt to workers."""
    for item in items:
        if item.nodeid.rpartition("tests/test_")[2].startswith(BITS):
            item.add_marker("bits")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in SLOWEST)


def photograph(height: int, width: int, seed: int) -> Pixels:
    """(H, W, 3) uint8: waves of several lengths and a little noise, so that codecs have work."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(y * a + x * b + c) for a, b, c in rng.uniform(0.05, 0.5, (3, 3))]
    levels = 128 + 80 * np.stack(waves, axis=2) + rng.normal(0, 8, (height, width, 3))
    return levels.clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: Pixels, **options: Any) -> None:
    """Writes (H, W, 3), or (H, W) for grey; the codec goes by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_photographs(root: Path) -> None:
    """Eleven small photographs in three folders: each codec, kind of JPEG and odd name once."""
    grey = photograph(33, 47, 3)[..., 0]
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(root / "plain.jpg", photograph(40, 56, 0), quality=90, subsampling="4:2:0")
    save(root / "rotated.jpg", photograph(32, 48, 1), quality=85, exif=exif, icc_profile=PROFILE)
    save(root / "a/full.jpg", photograph(40, 56, 2), quality=50, subsampling="4:4:4")
    save(root / "a/grey.jpg", grey, quality=80)
    save(root / "a/progressive.jpeg", photograph(31, 57, 4), subsampling="4:2:2", progressive=True)
    save(root / "b/dotted.v1.2.JPG", photograph(24, 24, 5), quality=95)
    save(root / "b/grey.png", grey)
    save(root / "b/lossy.webp", photograph(40, 24, 6), quality=80)
    save(root / "b/rgb.png", photograph(17, 23, 7))
    save(root / "b/with space.png", photograph(16, 16, 8))
    save(root / "Grüße/写真.jpg", photograph(48, 32, 9), quality=75)


def python(
    script: str, *arguments: object, options: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> Finished:
    """Runs a script in a process of its own, started in the repository."""
    command = [sys.executable, *options, "-c", script, *map(str, arguments)]
    here = Path(__file__).parents[1]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=here, env=env)


def run(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: object) -> int:
    """Exit status of a command; a traceback fails the test."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="session", autouse=True)
def _quick_looks() -> Iterator[None]:
    """No other process writes where the tests do: they need not wait before they look again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pack.storage.retry.SETTLE_S", 0.01)
        yield


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """Keeps what earlier files left out of garbage collections: each run in this process ends with one.

    With what a worker holds after a hundred files, a collection takes seconds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``photos`` of `write_photographs`; to be read only."""
    root = tmp_path_factory.mktemp("source") / "photos"
    write_photographs(root)
    return root


@pytest.fixture(scope="session")
def packed(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photographs` packed by the identity, four pairs a shard; to be read only."""
    from pack.base.config import PackConfig
    from pack.publish.packing import pack

    out = tmp_path_factory.mktemp("packed") / "photos"
    pack(PackConfig(source=str(photographs), out=str(out), autoencoder="identity", threads=2, shard_pairs=4))
    return out
