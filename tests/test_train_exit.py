"""Short runs under torchrun end without an abort, over and over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from train_data import make_dataset
from train_runs import as_options, small_config

ROOT = Path(__file__).parents[1]
RUNS = 30


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_rank_aborts_at_its_exit(tmp_path: Path) -> None:
    url = make_dataset(tmp_path / "data", pairs=16, shard_pairs=8, size=(40, 40))
    aborts = []
    for number in range(RUNS):
        run = small_config({"train": url}, tmp_path / f"run{number}", epochs=1)
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        found = subprocess.run(
            [*words, "-m", "train", *as_options(run)],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if found.returncode or "terminate called" in found.stderr:
            aborts.append(found.stderr[-2000:])
    assert not aborts, f"{len(aborts)} of {RUNS} runs: {aborts[0]}"
