"""A rank opens, orders and enters 20 million pairs in 20,000 shards, and a billion in a million shards, in
little time and memory.

pytest -s shows the measured table; the times are printed, not asserted.
"""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pack.dataset.dataset import open_dataset
from pack.shard.listed.table import ShardTable
from pack.shard.manifest import NAME, Manifest, ShardEntry
from recon.base.errors import UserError
from train.order.epoch import EpochOrder
from train.order.mixture import Source

SHARDS, VAST, PAIRS = 20_000, 1_000_000, 1_000
BATCH = 256

# Runs where nothing else is imported, as in the process that reads for a rank.
MEASURE = """
import json, sys, time
from pack.shard.manifest import read_manifest
from pack.storage import open_store
from train.order.epoch import EpochOrder
from train.order.mixture import Source

url, weight, batch = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
shares = list(map(float, sys.argv[4:]))

def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

base = kib("VmRSS")
laps, started = [], time.perf_counter()

def lap(name):
    global started
    laps.append([name, time.perf_counter() - started, (kib("VmHWM") - base) / 1024])
    started = time.perf_counter()

manifest = read_manifest(open_store(url))
manifest.sha256
lap("open")
source = Source(shard_pairs=manifest.numbers("pairs"), weight=weight)
order = EpochOrder([source], seed=1, epoch=3, lanes=192, block=16, window=3)
lap("order")
for world in (8, 1):
    for share in shares:
        step = int(share * (order.steps(batch) - 1))
        places = next(order.positions(0, world, batch, step))
        window = next(order.rank_windows(0, world, step * batch))
        assert (window.lane, window.item) == (places[0] % 192, places[0] // 192)
        lap(f"seek step {step} of world {world}")
print(json.dumps({"laps": laps, "pairs": order.pairs, "torch": "torch" in sys.modules}))
"""


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a dataset of which nothing else exists."""
    folder = tmp_path_factory.mktemp("huge")
    digests = [sha256(str(number).encode()).hexdigest() for number in range(SHARDS)]
    shards = tuple(
        ShardEntry(name=f"shard-{number:06d}", pairs=PAIRS, bytes=10**8, sha256=digest, index_sha256=digest)
        for number, digest in enumerate(digests)
    )
    manifest = Manifest(name="huge", split="train", shards=shards, rejected=0, provenance={})
    (folder / NAME).write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def vast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a dataset with a table of its shards, of which nothing else exists."""
    folder = tmp_path_factory.mktemp("vast")
    kind = [("name", "S13"), ("pairs", "<i4"), ("bytes", "<i8"), ("sha256", "V32"), ("index_sha256", "V32")]
    rows = np.zeros(VAST, kind)
    rows["name"] = [b"shard-%06d" % number for number in range(VAST)]
    rows["pairs"], rows["bytes"] = PAIRS, 10**8
    rows["sha256"] = np.frombuffer(np.random.default_rng(0).bytes(32 * VAST), "V32")
    manifest = Manifest(
        name="vast", split="train", shards=ShardTable(rows), rejected=0, provenance={}, tabled=True
    )
    for name, data in manifest.files():
        (folder / name).write_bytes(data)
    return folder


def measured(url: Path, weight: float, *shares: float) -> dict[str, Any]:
    """What a process of its own finds; its copies of tables lie beside the dataset."""
    command = [sys.executable, "-c", MEASURE, str(url), str(weight), str(BATCH), *map(str, shares)]
    root, environ = Path(__file__).parent.parent, os.environ | {"TMPDIR": str(url)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environ)
    found: dict[str, Any] = json.loads(done.stdout)
    for name, seconds, peak in found["laps"]:
        print(f"weight {weight}, {name:26}: {seconds:6.3f} s, peak +{peak:5.1f} MiB")  # noqa: T201
    assert not found["torch"]
    return found


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_twenty_million_pairs_are_entered_anywhere_within_200_mb(huge: Path, weight: float) -> None:
    found = measured(huge, weight, 0.0, 0.587, 1.0)
    assert found["pairs"] == SHARDS * PAIRS * weight
    assert found["laps"][-1][2] * 2**20 < 200e6


def test_a_billion_pairs_are_entered_anywhere_within_500_mb_for_the_eight_ranks_of_a_node(
    vast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(vast))
    assert open_dataset(str(vast)).manifest.pairs == VAST * PAIRS  # the node's first process makes the copy
    found = measured(vast, 1.0, 0.587)
    assert found["pairs"] == VAST * PAIRS
    (table,) = vast.glob("dataset-*.npy")
    shared = table.stat().st_size  # by all ranks
    assert 8 * (found["laps"][-1][2] * 2**20 - shared) + shared < 500e6


def test_no_index_is_read_before_a_pair_of_its_shard_is(huge: Path) -> None:
    dataset = open_dataset(str(huge))
    source = Source(shard_pairs=[shard.pairs for shard in dataset.manifest.shards])
    order = EpochOrder([source], seed=1, epoch=3, lanes=192, block=16, window=3)
    run = next(order.rank_windows(0, 8, 45_678 * BATCH)).runs[0]
    with pytest.raises(UserError, match=rf"shard-{run.shard:06d}\.parquet"):
        dataset.read_block(run.shard, run.first, run.count)
