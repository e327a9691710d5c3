"""The bench measures the pipeline's own pairs, adds up, and says what it found as a table and as JSON."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import run
from train_data import make_dataset

from pack.dataset.dataset import open_dataset
from pack.shard.manifest import Manifest, ShardEntry
from recon.base.errors import UserError
from train.bench import clock as clocks
from train.bench import stages
from train.bench.clock import Clock
from train.bench.command import BenchConfig, bench, main
from train.bench.stages import Bench, places_of
from train.draws.config import AugmentConfig

OPS = {"jitter", "grey", "cutout", "noise", "blur", "jpeg", "crop", "normalise"}
AUGMENT = AugmentConfig(crop=24)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("bench"), pairs=19, shard_pairs=8)


@pytest.fixture(autouse=True)
def _torch_threads_stay() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_command_writes_a_table_and_json(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert (
        run(
            monkeypatch,
            main,
            "--oracle",
            url,
            "--augment.crop",
            "24",
            "--pairs",
            "29",
            "--batch",
            "5",
            "--json",
            str(out),
        )
        == 0
    )
    facts, table = json.loads(out.read_text()), capsys.readouterr().out
    assert facts["pairs"] == 29
    assert {"read", "window", "collate", "transfer", *OPS} <= set(facts["stages"])
    assert all(re.search(rf"^{re.escape(name)} ", table, re.MULTILINE) for name in facts["stages"])
    assert facts["decode_ratio"] == facts["cpu_ms_per_pair"] / facts["decoding_cpu_ms_per_pair"]
    assert facts["oracle_ratio"] == facts["pairs_per_s"] / facts["oracle_pairs_per_s"]
    assert f"{facts['pairs_per_s']:.1f} pairs/s; {facts['decode_ratio']:.2f} times" in table
    assert facts["augment"]["crop"] == 24


def test_stages_add_up_to_the_pipeline(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # By CPU time, in which other processes have no part; with one thread, all of it is the pipeline's.
    for module in (stages, clocks):
        cpu = SimpleNamespace(perf_counter=time.process_time, process_time=time.process_time)
        monkeypatch.setattr(module, "time", cpu)
    facts = bench(BenchConfig(url, augment=AUGMENT, pairs=64))
    found = facts["stages"].values()
    assert 0.7 < sum(stage["occupancy"] for stage in found) <= 1
    assert sum(stage["cpu_ms_per_pair"] for stage in found) <= facts["cpu_ms_per_pair"] * 1.01
    assert facts["cpu_ms_per_pair"] == pytest.approx(1e3 / facts["pairs_per_s"], rel=0.01)
    assert "oracle_ratio" not in facts


def test_threads_decode_at_once_and_share_the_time(url: str) -> None:
    facts = bench(BenchConfig(url, augment=AUGMENT, threads=3, pairs=9, batch=4))
    assert facts["pairs"] == 9
    assert 0 < facts["stages"]["window"]["occupancy"] <= 1


def test_the_ways_take_turns_over_the_same_pairs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, tuple[int, int, int]]] = []
    for way in ("pipeline", "decoding", "oracle"):
        monkeypatch.setattr(Bench, way, lambda _, places, way=way: calls.append((way, places[0])))
    found = Bench(open_dataset(url), AUGMENT, threads=1, device=torch.device("cpu"), seed=0)
    for number in range(4):
        found.round([(0, number, 0)], number, more=["oracle"])
    assert [place for _, (_, place, _) in calls] == [number for number in range(4) for _ in range(3)]
    assert [calls[3 * number][0] for number in range(4)] == ["pipeline", "decoding", "oracle", "pipeline"]
    assert len(set(calls)) == 12


@pytest.mark.parametrize("count", [1, 16, 17, 100, 1000])
def test_places_spread_over_the_dataset(count: int) -> None:
    shards = tuple(
        ShardEntry(name=f"s{number}", pairs=pairs, bytes=1, sha256="", index_sha256="")
        for number, pairs in enumerate((40, 1, 200, 33))
    )
    manifest = Manifest(name="a", split=None, shards=shards, rejected=0, provenance={})
    places = places_of(manifest, count)
    assert len(places) == len(set(places)) == count
    assert all(0 <= row < shards[shard].pairs for shard, row, _ in places)
    assert count < 100 or {shard for shard, *_ in places} >= {0, 2}
    assert {copy for *_, copy in places} == set(range(-(-count // 274)))


def test_a_clock_adds_up_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = {"perf_counter": 100.0, "process_time": 10.0, "thread_time": 1.0}
    monkeypatch.setattr(clocks, "time", SimpleNamespace(**{name: partial(hands.get, name) for name in hands}))
    finished: list[int] = []
    clock = Clock(lambda: finished.append(1), threads=4)

    def work(wall_s: float, cpu_s: float, thread_s: float) -> None:
        with clock("work"):
            for name, seconds in zip(hands, (wall_s, cpu_s, thread_s), strict=True):
                hands[name] += seconds

    for _ in range(2):
        work(8.0, 3.0, 0.25)
    assert (clock.stages["work"].wall_s, clock.stages["work"].cpu_s) == (16.0, 6.0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, 8.0, 3.0, 0.25).result()
    assert (clock.stages["work"].wall_s, clock.stages["work"].cpu_s) == (18.0, 6.25)
    assert len(finished) == 2  # the device is the main thread's


def test_the_time_of_a_stage_inside_of_another_is_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = {"perf_counter": 100.0, "process_time": 10.0}
    monkeypatch.setattr(clocks, "time", SimpleNamespace(**{name: partial(hands.get, name) for name in hands}))
    clock = Clock(lambda: None)
    with clock("window"):
        hands["process_time"] += 1
        for seconds in (2, 4):
            with clock("entropy"):
                hands["process_time"] += seconds
        hands["process_time"] += 8
    with clock("collate"):
        hands["process_time"] += 16
    assert {name: spent.cpu_s for name, spent in clock.stages.items()} == {
        "entropy": 6.0,
        "window": 9.0,
        "collate": 16.0,
    }


def test_decoding_in_part_is_compared_with_decoding_whole(tmp_path: Path) -> None:
    url = make_dataset(tmp_path, pairs=4, shard_pairs=4, codec="both", size=(320, 480))
    facts = bench(BenchConfig(url, augment=AUGMENT, pairs=6, whole=True))
    assert facts["whole_ratio"] == facts["cpu_ms_per_pair"] / facts["whole_cpu_ms_per_pair"]
    assert {"entropy", "pixels", "window"} <= set(facts["stages"])
    assert 0 < facts["decoded_share"] < 0.5
    assert facts["read_share"] == 1, "the files are small"
    undivided = bench(
        BenchConfig(make_dataset(tmp_path / "png", pairs=2, shard_pairs=2), augment=AUGMENT, pairs=2)
    )
    assert undivided["decoded_share"] == 1
    assert {"decode", "window"} <= set(undivided["stages"])
    assert "whole_ratio" not in undivided


def test_the_palette_s_deviation_is_reported(url: str) -> None:
    greys = bench(BenchConfig(url, augment=AUGMENT, pairs=3))["palette_deviation"]
    assert greys["images"] == 3
    assert 0 <= greys["mean"] <= greys["most"] <= 3


def test_mistakes_are_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="batch=0, expected at least 1"):
        BenchConfig(url, batch=0)
    with pytest.raises(UserError, match=r"can't write .*: it is a folder; name a file in it"):
        bench(BenchConfig(url, json=str(tmp_path)))
    with pytest.raises(UserError, match="is no op of the published recipe"):
        bench(BenchConfig(url, augment=AugmentConfig(crop=24, sharpen_p=0.5), oracle=True))
    assert run(monkeypatch, main, url, "--device", "abacus") == 2
