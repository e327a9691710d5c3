"""`python -m train.simulate` against what two ranks really ask of a bucket, and against its own limits."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run as run_command
from fault_proxy import FaultProxy
from s3_server import S3Env, new_url, upload
from train_data import make_dataset, world

from pack.dataset.dataset import open_dataset
from recon.base.errors import UserError
from train.order.config import OrderConfig
from train.order.epoch import EpochOrder
from train.order.mixture import Source
from train.simulate.command import SimulateConfig, main
from train.simulate.figures import Figures, simulate
from train.simulate.paper import paper_manifest
from train.simulate.reading import Rank, read_rank

PAIRS, SHARD, BATCH = 300, 23, 12
ORDER: dict[str, Any] = {"lanes": 6, "block": 4, "window": 3, "seed": 5}
SMALL = 40_000
"""Bytes of index rows that fit for some five of the shards."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = make_dataset(tmp_path_factory.mktemp("simulated"), pairs=PAIRS, shard_pairs=SHARD)
    return Path(url)


def config(folder: Path, **options: Any) -> SimulateConfig:
    """Two ranks on a dataset that is there."""
    index, hints = (
        sum(path.stat().st_size for path in folder.glob(f"*.{suffix}")) / PAIRS
        for suffix in ("parquet", "hints")
    )
    order = OrderConfig(global_batch=BATCH, **ORDER)
    sizes = {"index_bytes": index, "hint_bytes": hints}
    return SimulateConfig(gpus=2, data=str(folder), order=order, **sizes, **options)


def predicted(found: Figures, how: SimulateConfig) -> dict[str, float]:
    """What both ranks ask for in an epoch."""
    rates = {
        "indexes": found.index_requests_per_s,
        "index bytes": found.index_bytes_per_s,
        "hints": found.hint_requests_per_s,
        "hint bytes": found.hint_bytes_per_s,
        "blocks": found.requests_per_s - found.index_requests_per_s - found.hint_requests_per_s,
        "block bytes": found.bytes_per_s - found.index_bytes_per_s - found.hint_bytes_per_s,
    }
    return {name: rate / how.pairs_per_s * found.pairs for name, rate in rates.items()}


def asked(proxy: FaultProxy) -> dict[str, float]:
    """What was asked of the bucket."""
    return {
        "indexes": len(proxy.requests(".parquet")),
        "index bytes": proxy.sent(".parquet"),
        "hints": len(proxy.requests(".hints")),
        "hint bytes": proxy.sent(".hints"),
        "blocks": len(proxy.requests(".tar")),
        "block bytes": proxy.sent(".tar"),
    }


def read(url: str, *, step: int = 0, **options: Any) -> None:
    """Two ranks from a step on to the end of the epoch."""
    loaders = world(url, 2, batch_size=BATCH // 2, **ORDER, **options)
    for loader in loaders:
        loader.step = step
        assert sum(1 for _ in loader) == len(loader) - step
        loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_two_ranks_asks_for_what_was_predicted(
    workers: int,
    folder: Path,
    s3_env: S3Env,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not workers:  # a worker has its own memory for indexes, in which all of them have room
        monkeypatch.setattr("pack.dataset.dataset._CACHED_BYTES", SMALL)
    how = config(folder)
    expected = predicted(simulate(how), how)
    read(upload(s3_env.server, folder, new_url()), workers=workers)
    found = asked(proxy)
    assert found == pytest.approx(expected, rel=0.2)
    shards = len(open_dataset(str(folder)).manifest.shards)
    assert found["indexes"] <= 2 * shards if workers else found["indexes"] > 3 * shards


def test_a_resume_of_two_ranks_reads_again_what_was_predicted(
    folder: Path,
    s3_env: S3Env,
    proxy: FaultProxy,
) -> None:
    how, step = config(folder), 300 // BATCH // 2
    found = simulate(how)
    read(upload(s3_env.server, folder, new_url()), step=step, workers=0)
    rest = (PAIRS - step * BATCH) / PAIRS * found.bytes
    first = ORDER["lanes"] / PAIRS * found.bytes  # the first pair of a lane comes alone, then with its block
    again = asked(proxy)["block bytes"] - rest - first
    assert again == pytest.approx(2 * found.again_bytes, rel=0.2)
    assert again > 0


def test_balance_counts_the_runs_and_pairs_of_every_rank() -> None:
    manifest = paper_manifest(7_001, 90, 1000.0)
    order = EpochOrder(
        [Source(shard_pairs=manifest.numbers("pairs"))], seed=1, epoch=0, lanes=12, block=4, window=3
    )
    for rank in range(4):
        windows = list(order.rank_windows(rank, 4))
        assert sum(len(one.runs) for one in windows) == order.runs_of_lanes()[rank::4].sum()
        assert sum(len(one.shuffle) for one in windows) == order.pairs_of_lanes()[rank::4].sum()


def test_a_made_up_manifest_has_the_pairs_and_bytes_that_were_asked_for() -> None:
    manifest = paper_manifest(1_050, 100, 200.0)
    assert (manifest.pairs, manifest.bytes, len(manifest.shards)) == (1_050, 210_000, 11)
    assert manifest.numbers("pairs").tolist() == [100] * 10 + [50]
    assert np.unique([shard.name for shard in manifest.shards]).size == 11


def test_a_rank_reads_each_of_its_pairs_once_and_holds_its_windows_and_what_it_reads_ahead() -> None:
    manifest = paper_manifest(40_000, 100, 1000.0)
    order = EpochOrder(
        [Source(shard_pairs=manifest.numbers("pairs"))], seed=1, epoch=0, lanes=16, block=10, window=2
    )
    who = Rank(rank=1, world_size=2, batch=4, read_ahead_bytes=50_000, index_bytes=0.0, hint_bytes=0.0)
    whole = read_rank(manifest, order, who, pairs=20_000)
    lanes = 8
    assert (whole.pairs, whole.lasting.bytes) == (20_000, 1000 * (20_000 + lanes))  # first pairs come twice
    assert whole.first.bytes == 4_000
    assert 50_000 < whole.held_bytes < 1000 * (lanes * 20 + 50 + 20)
    part = read_rank(manifest, order, who, pairs=2_000)
    assert part.lasting.requests / part.pairs == pytest.approx(whole.lasting.requests / whole.pairs, rel=0.05)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"bucket_requests": 100.0}, r"^the bucket, at 2 ranks: 100 requests/s \(is exceeded with 8\)"),
        ({"node_gbit": 0.1}, r"^the network of a node, which would have to be 1?\d\d times as large$"),
        ({"node_memory_gb": 0.1}, r"^the memory of a node"),
        (
            {"bucket_requests": 1e6},
            r"^the bucket, at \d\d,\d{3} ranks: 1,000,000 .* \(holds with 8\)",
        ),
    ],
)
def test_the_limit_that_is_met_first_is_named(limits: dict[str, float], what: str) -> None:
    found = simulate(SimulateConfig(pairs=1e5, **limits))  # type: ignore[arg-type]
    assert re.search(what, found.breaks), found.breaks


def test_the_command_prints_a_table_or_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--nodes 2 --gpus 4 --pairs 1e5 --order.lanes 8 --order.global_batch 16".split()
    assert run_command(monkeypatch, main, *options) == 0
    text = capsys.readouterr().out
    assert text.startswith("8 ranks on 2 nodes; 100,000 pairs in 100 shards, 0.02 TB; 500 pairs/s a rank\n")
    assert "balance: 12,500 pairs a rank" in text
    assert run_command(monkeypatch, main, *options, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["steps"], facts["masked"], facts["rank_pairs"]) == (6250, 0, [12_500, 12_500])
    assert facts["epoch_s"] == 6250 * 16 / 8 / 500


def test_ranks_that_the_order_can_not_be_dealt_to_are_refused() -> None:
    with pytest.raises(UserError, match=r"lanes=192 is not a multiple of the world size 1024; use 1024"):
        simulate(SimulateConfig(nodes=128))
    with pytest.raises(UserError, match=r"100 pairs, expected at least order\.lanes=192"):
        simulate(SimulateConfig(pairs=100))
    with pytest.raises(UserError, match=r"pairs=1\.5, expected a whole number"):
        SimulateConfig(pairs=1.5)


@pytest.mark.parametrize("made_up", [{"pairs": 1e7}, {"shard_pairs": 1000}, {"pair_bytes": 5e3}])
def test_a_dataset_that_is_there_and_one_that_is_made_up_are_not_both_simulated(made_up: Any) -> None:
    ((name, value),) = made_up.items()
    with pytest.raises(
        UserError, match="is of a made-up dataset, but data=a names one that is there"
    ) as told:
        SimulateConfig(data="a", **made_up)
    assert str(told.value).startswith(f"{name}={value:g} ")
