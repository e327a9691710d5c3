"""A dataset with one damaged pair in a hundred: they are left out, and nothing else moves."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_data import make_dataset, photograph, world
from train_runs import Ranks

from pack.dataset.dataset import Dataset
from pack.shard.index import index_bytes
from pack.shard.manifest import NAME, ShardEntry, read_manifest
from pack.shard.pair import Pair
from pack.shard.schema import MEMBERS
from pack.shard.writer import ShardWriter
from pack.storage import open_store
from recon.image.codec import Picture, encode
from train.draws.config import AugmentConfig
from train.loader.transfer import Batch

SIZE = (20, 24)
PAIRS, SHARD_PAIRS, LAST_PAIRS = 600, 90, 4  # the last shard is written by hand
FLIPPED = {7: 0, 100: 1, 101: 2, 299: 0, 450: 1, 599: 2}  # numbers of pairs, and the members that are hurt
UNDECODABLE = "written-2"
ORDER = {"global_batch": 24, "lanes": 8, "block": 4, "window": 3, "seed": 1}
CROP = 16
STEPS = -(-(PAIRS + LAST_PAIRS) // ORDER["global_batch"])
EPOCHS = 2


@dataclass(frozen=True, kw_only=True)
class Data:
    """A dataset with damaged pairs, and what it was before."""

    clean: str
    hurt: str
    causes: dict[str, str]
    """Of the damaged pairs, by key."""
    urls: dict[str, str]
    """The tars that they lie in."""


def append_shard(folder: Path, *, undecodable: str | None = None) -> None:
    """Adds a shard to a dataset, one pair of which may hold half a PNG, its CRC right."""
    store = open_store(str(folder))
    manifest = read_manifest(store)
    name = f"shard-{len(manifest.shards):06d}"
    with store.publish(f"{name}.tar") as file:
        writer = ShardWriter(file, manifest.name)
        for number in range(LAST_PAIRS):
            key, pixels = f"written-{number}", photograph(10_000 + number, SIZE)
            real, fake = (
                encode(one, Picture(pixels=one, codec="png"), "png") for one in (pixels, pixels ^ 4)
            )
            if key == undecodable:
                fake = fake[: len(fake) // 2]
            record = {"group": "written", "height": SIZE[0], "width": SIZE[1]}
            record |= {"real_codec": "png", "fake_codec": "png"}
            writer.add(Pair(key=key, real=real, real_codec="png", fake=fake, fake_codec="png", record=record))
        size, sha256 = writer.close()
    index = index_bytes(writer.rows, {})
    with store.publish(f"{name}.parquet") as file:
        file.write(index)
    entry = ShardEntry(
        name=name,
        pairs=LAST_PAIRS,
        bytes=size,
        sha256=sha256,
        index_sha256=hashlib.sha256(index).hexdigest(),
    )
    with store.publish(NAME) as file:
        file.write(replace(manifest, shards=(*manifest.shards, entry)).to_json().encode())


def flip(url: str, members: dict[int, int]) -> Iterator[tuple[str, str, str]]:
    """Flips a byte in the payload of one member of some pairs; yields their keys, tars and causes."""
    dataset, first = Dataset(url), 0
    for shard, entry in enumerate(dataset.manifest.shards):
        index, tar = dataset.index(shard), Path(dataset.tar_url(shard))
        content = bytearray(tar.read_bytes())
        for number, member in members.items():
            if 0 <= (row := number - first) < entry.pairs:
                content[int(index.offsets[row, member] + index.sizes[row, member] // 2)] ^= 0x10
                yield index.keys[row], str(tar), f"CRC-32 of {MEMBERS[member]} differs"
        tar.write_bytes(content)
        first += entry.pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    clean = Path(make_dataset(folder, pairs=PAIRS, shard_pairs=SHARD_PAIRS, size=SIZE))
    hurt = folder / "hurt"
    shutil.copytree(clean, hurt)
    append_shard(clean)
    append_shard(hurt, undecodable=UNDECODABLE)
    flipped = list(flip(str(hurt), FLIPPED))
    last = Dataset(str(hurt)).tar_url(-1)
    return Data(
        clean=str(clean),
        hurt=str(hurt),
        causes={key: cause for key, _, cause in flipped} | {UNDECODABLE: "fake can't be decoded"},
        urls={key: url for key, url, _ in flipped} | {UNDECODABLE: last},
    )


# The loader


def batches_of(url: str) -> list[list[Batch]]:
    """The batches of two ranks."""
    order = {name: value for name, value in ORDER.items() if name != "global_batch"}
    ranks = world(url, 2, augment=AugmentConfig(crop=CROP), batch_size=ORDER["global_batch"] // 2, **order)
    return [list(loader) for loader in ranks]


@pytest.fixture(scope="module")
def steps_of_damage(data: Data) -> dict[str, int]:
    """The step of the epoch, from 1, in which each damaged pair would have been."""
    ranks = batches_of(data.clean)
    steps = {key: step for batches in ranks for step, batch in enumerate(batches, 1) for key in batch.keys}
    return {key: steps[key] for key in data.causes}


def test_only_the_slots_of_damaged_pairs_are_masked_and_no_other_rank_notices(data: Data) -> None:
    found: dict[str, str] = {}
    for clean, hurt in zip(batches_of(data.clean), batches_of(data.hurt), strict=True):
        assert len(clean) == len(hurt) == STEPS
        for before, after in zip(clean, hurt, strict=True):
            keys = iter(before.keys)
            lost = [valid and next(keys) in data.causes for valid in before.mask.tolist()]
            assert after.mask.tolist() == [
                valid and not gone for valid, gone in zip(before.mask.tolist(), lost, strict=True)
            ]
            assert torch.equal(after.images[after.mask], before.images[after.mask])
            assert not after.images[~after.mask].any()
            assert after.keys == [key for key in before.keys if key not in data.causes]
            found |= {pair.key: pair.cause for pair in after.damaged}
    assert found == data.causes


# The trainer


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that ended."""

    out: Path
    status: int
    said: str

    @property
    def error(self) -> str:
        """What all ranks say alike."""
        (told,) = {line for line in self.said.splitlines() if line.startswith("error: ")}
        return told

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text("utf-8").splitlines()]


def words(url: str, out: Path, **more: object) -> list[str]:
    options: dict[str, object] = {f"order.{name}": value for name, value in ORDER.items()}
    options |= {"out": out, "data.train": url, "augment.crop": CROP, "model.backbone": "highpass"}
    options |= {"optim.lr": 0.002, "epochs": EPOCHS, "log_every": 1, "device": "cpu", "threads": 1} | more
    return [f"--{name}={value}" for name, value in options.items()]


def train_on_two_ranks(url: str, out: Path, **more: object) -> Run:
    statuses, said = Ranks().run(2, words(url, out, **more), out.parent)
    assert "Traceback" not in said, said
    assert statuses[0] == statuses[1], said
    return Run(out=out, status=statuses[0], said=said)


@pytest.fixture(scope="module")
def clean_run(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_on_two_ranks(data.clean, tmp_path_factory.mktemp("clean") / "run")


@pytest.fixture(scope="module")
def hurt_run(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("hurt") / "run"
    return train_on_two_ranks(data.hurt, out, **{"data.max_damaged": 0.02})


def test_exactly_the_damaged_pairs_are_listed_each_once(
    data: Data, hurt_run: Run, steps_of_damage: dict[str, int]
) -> None:
    assert hurt_run.status == 0, hurt_run.said
    lines = hurt_run.lines("quarantine.jsonl")
    assert lines == [
        {"epoch": 0, "step": step, "url": data.urls[key], "key": key, "cause": data.causes[key]}
        for step, key in sorted((step, key) for key, step in steps_of_damage.items())
    ]


def test_an_undamaged_run_lists_none(clean_run: Run) -> None:
    assert clean_run.status == 0, clean_run.said
    assert clean_run.lines("quarantine.jsonl") == []


def test_the_steps_are_those_of_the_undamaged_dataset(
    clean_run: Run, hurt_run: Run, steps_of_damage: dict[str, int]
) -> None:
    clean, hurt = clean_run.lines("metrics.jsonl"), hurt_run.lines("metrics.jsonl")
    assert [line["step"] for line in hurt] == list(range(1, EPOCHS * STEPS + 1))
    for before, after in zip(clean, hurt, strict=True):
        assert before | {"loss": None} == after | {"loss": None}
        assert after["loss"] is not None
    untouched = min(steps_of_damage.values()) - 1
    assert untouched > 0
    assert hurt[:untouched] == clean[:untouched]
    assert hurt[untouched:] != clean[untouched:]


def test_past_the_default_limit_the_run_stops_and_says_where_and_how_many(data: Data, tmp_path: Path) -> None:
    run = train_on_two_ranks(data.hurt, tmp_path / "run")
    assert run.status == 2
    steps = -(-1000 // ORDER["global_batch"])  # in the second epoch, whose last slots are pairs again
    error = run.error
    assert "pairs seen were damaged, more than data.max_damaged=0.001 allows (" in error
    damaged = len(data.causes)
    found = [int(word) for word in error.split()[1:4:2]]
    assert damaged < found[0] <= 2 * damaged
    assert 1000 <= found[1] < 1000 + ORDER["global_batch"]
    assert "CRC-32 of real differs: 2" in error
    assert re.search(rf"; most of them in {data.hurt}/shard-00000[16].tar \(2\); run python", error)
    assert "run python -m pack.verify" in error
    assert "or raise data.max_damaged" in error
    assert len(run.lines("quarantine.jsonl")) == damaged
    assert steps - 1 <= len(run.lines("metrics.jsonl")) <= steps + 1


def test_with_nothing_valid_the_run_stops_at_its_first_step(tmp_path: Path) -> None:
    url = make_dataset(tmp_path / "data", pairs=60, shard_pairs=25, size=SIZE)
    assert len(list(flip(url, dict.fromkeys(range(60), 0)))) == 60
    run = train_on_two_ranks(url, tmp_path / "run", **{"data.max_damaged": 1.0})
    assert run.status == 2
    error = run.error
    count = ORDER["global_batch"]
    assert error.startswith(
        f"error: not one of {count} pairs so far is whole (CRC-32 of real differs: {count})"
    )
    assert f"{url}/shard-" in error
    assert len(run.lines("quarantine.jsonl")) == count
    assert not list(run.out.glob("*.pt"))
