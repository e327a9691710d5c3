"""What packing holds: flat over the images, and within what its options say."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import save

BUFFER_MB, SIDE = 16, 320  # .3 MB of pixels an image
FIXED_MB = 400  # the interpreter and its libraries 100, what waits to be encoded 128 and to be written 64


def photographs(folder: Path, count: int) -> Path:
    """Noise, 20 files of it under many names: what matters is how much of it there is."""
    rng = np.random.default_rng(0)
    files = [folder / f"noise/{number}.jpg" for number in range(20)]
    for file in files:
        save(file, rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    (folder / "photos").mkdir()
    for number in range(count):
        os.link(files[number % 20], folder / f"photos/{number:05}.jpg")
    return folder / "photos"


def resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


SCRIPT = """
import sys
from pack.pipeline import pipeline
from pack.base.config import PackConfig
from pack.publish.packing import pack
pipeline.BACKLOG, pipeline.RESULTS = (int(mb) << 20 for mb in sys.argv[4:])
options = {"autoencoder": "identity", "shard_pairs": 100, "buffer_mb": int(sys.argv[3])}
pack(PackConfig(source=sys.argv[1], out=sys.argv[2], **options))
"""


def sizes_while_packing(source: Path, out: Path, backlog_mb: int = 128, results_mb: int = 64) -> list[float]:
    """Resident MiB of a packing process, twenty times a second, once it writes."""
    numbers = [str(number) for number in (BUFFER_MB, backlog_mb, results_mb)]
    command = [sys.executable, "-c", SCRIPT, str(source), str(out), *numbers]
    sizes = []
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            if (out / "shard-000000.tar").exists() and (size := resident_mb(process.pid)):
                sizes.append(size)
            time.sleep(0.05)
        assert process.stderr
        assert process.returncode == 0, process.stderr.read().decode()
    return sizes


def test_packing_holds_what_its_options_say(tmp_path: Path) -> None:
    sizes = sizes_while_packing(photographs(tmp_path, 1_000), tmp_path / "out")
    assert max(sizes) < FIXED_MB + BUFFER_MB


@pytest.mark.soak
def test_soak_packing_holds_no_more_after_5_000_images_than_after_few(tmp_path: Path) -> None:
    """With short queues: those of a user fill whenever the disk is slow, to the bound above."""
    sizes = sizes_while_packing(photographs(tmp_path, 5_000), tmp_path / "out", 8, 4)
    quarters = [statistics.median(part) for part in np.array_split(sizes, 4)]
    sys.stdout.write(f"MiB by quarters: {quarters}, at most {max(sizes):.0f}\n")
    assert quarters[3] < 1.05 * quarters[1]
