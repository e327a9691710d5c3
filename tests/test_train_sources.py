"""Loaders of mixtures, of filtered datasets and with a cache: exact as the plain ones."""

import json
import re
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from train_data import AUGMENT, PAIRS, assert_equal, make_dataset, steps_of, world

from pack.dataset.dataset import Dataset, iterate_pairs, open_dataset
from pack.dataset.selection import Selection, select
from pack.storage import LocalStore
from recon.base.errors import UserError
from train.loader.loader import PairLoader

OTHERS = 20  # pairs of the second dataset


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("others"), pairs=OTHERS, shard_pairs=7, start=300)


def keys_of(url: str) -> list[str]:
    return [pair.key for pair in iterate_pairs(url)]


def epoch_keys(loaders: list[PairLoader]) -> list[str]:
    """Keys in the order of positions, a pair as often as it was visited."""
    steps = []
    for batches in zip(*loaders, strict=True):
        rows = max(len(batch.keys) for batch in batches)
        steps.append([batch.keys[row] for row in range(rows) for batch in batches if row < len(batch.keys)])
    return list(chain(*steps))


def test_weights_say_how_often_each_pair_is_seen(url: str, other: str) -> None:
    (loader,) = world({url: 2, other: 0.5}, 1)
    assert loader.pairs == 2 * PAIRS + OTHERS // 2
    assert len(loader) == -(-loader.pairs // loader.global_batch)
    first, second = Counter(epoch_keys([loader])), Counter(epoch_keys([loader]))
    for key in keys_of(url):
        assert first[key] == second[key] == 2
    assert {key: first[key] + second[key] for key in keys_of(other)} == dict.fromkeys(keys_of(other), 1)


def test_the_copies_of_a_pair_are_augmented_each_its_own_way(url: str) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    for batch in world({url: 3}, 1)[0]:
        for key, image in zip(batch.keys, batch.images[batch.mask], strict=True):
            seen.setdefault(key, []).append(image)
    differing = sum(not torch.equal(images[0], images[1]) for images in seen.values())
    assert differing > 0.8 * PAIRS
    assert {len(images) for images in seen.values()} == {3}


def test_a_mixture_is_the_same_for_every_world_size_and_resumes_at_every_step(url: str, other: str) -> None:
    mix = {url: 1, other: 1.4}
    (whole,) = world(mix, 1)
    states, expected = [whole.state_dict()], []
    for batch in whole:
        expected.append(batch.keys)
        states.append(whole.state_dict())
    next_epoch = epoch_keys([whole])
    assert epoch_keys(world(mix, 3)) == list(chain(*expected))
    for done, state in enumerate(states):
        ranks = world(mix, 1 + done % 3)
        for rank in ranks:
            rank.load_state_dict(json.loads(json.dumps(state)))
        assert epoch_keys(ranks) == (list(chain(*expected[done:])) or next_epoch)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"weights": (1, 0.5)}, r"state has weights=\[1\.0, 0\.25\], this loader \[1\.0, 0\.5\]"),
        ({"filter": "width > 20"}, r"state has filters=\[None, None\], this loader \['\w{64}', '\w{64}'\]"),
    ],
)
def test_a_state_of_another_mixture_is_refused_by_name(
    url: str, other: str, changed: dict[str, Any], complaint: str
) -> None:
    state = world({url: 1, other: 0.25}, 1)[0].state_dict()
    first, second = changed.get("weights", (1, 0.25))
    with pytest.raises(UserError, match=complaint):
        world({url: first, other: second}, 1, filter=changed.get("filter"))[0].load_state_dict(state)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({}, "no dataset is named"),
        ({"URL": 0}, "weight=0.0 of URL, expected a finite number above 0"),
        ({"URL": 1e9}, "weight=1000000000.0 of URL, expected at most 1000: how often"),
        ({"URL": float("nan")}, "weight=nan of URL, expected a finite number above 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(url: str, weights: dict[str, float], complaint: str) -> None:
    named = {name.replace("URL", url): weight for name, weight in weights.items()}
    with pytest.raises(UserError, match=re.escape(complaint.replace("URL", url))):
        world(named, 1)


def test_one_dataset_under_two_names_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="are one dataset; name it once, with the sum of the weights"):
        world({url: 1, f"{url}/": 1}, 1)


FILTERS = ["width == 56", "width >= 40 or height < 20", 'group == "real" and width * height > 1500']


def chosen_keys(url: str, text: str) -> set[str]:
    dataset = open_dataset(url)
    rows = [row for shard in range(len(dataset.manifest.shards)) for row in dataset.table(shard).to_pylist()]
    return {row["key"] for row in rows if eval(text, {}, row)}


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("size", [1, 2])
def test_a_filter_gives_exactly_its_pairs(url: str, text: str, size: int) -> None:
    loaders = world(url, size, filter=text)
    chosen = chosen_keys(url, text)
    assert 0 < len(chosen) < PAIRS
    assert loaders[0].pairs == len(chosen)
    plain = {key: image for step in steps_of(world(url, 1)) for key, image in step.items()}
    found = {key: image for step in steps_of(loaders) for key, image in step.items()}
    assert found.keys() == chosen
    assert all(torch.equal(found[key], plain[key]) for key in chosen)


def test_a_selection_made_once_serves_many_loaders(url: str) -> None:
    text = FILTERS[0]
    made = select(open_dataset(url), text)

    def given(_dataset: Dataset) -> Selection:
        return made

    assert_equal(steps_of(world(url, 2, filter=given)), steps_of(world(url, 1, filter=text)))
    assert world(url, 1, filter=given)[0].state_dict() == world(url, 1, filter=text)[0].state_dict()


def test_a_filter_that_selects_nothing_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="selects none of 47 pairs"):
        world(url, 1, filter="width > 10000")


@pytest.fixture
def tar_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """(name, start, length) of every read from a shard."""
    reads: list[tuple[str, int, int]] = []
    read = LocalStore.read_range

    def noted(self: LocalStore, name: str, start: int, length: int, **options: Any) -> memoryview:
        if name.endswith(".tar"):
            reads.append((name, start, length))
        return read(self, name, start, length, **options)

    monkeypatch.setattr(LocalStore, "read_range", noted)
    return reads


@pytest.mark.parametrize("block", [2, 5])
def test_with_a_cache_each_block_is_read_once_whatever_the_epoch_cuts(
    url: str, tmp_path: Path, tar_reads: list[tuple[str, int, int]], block: int
) -> None:
    options: dict[str, Any] = {"cache_dir": str(tmp_path / "cache"), "block": block, "reads": 1}
    (cached,), (plain,) = world(url, 1, **options), world(url, 1, block=block)
    for _ in range(3):
        found = steps_of([cached])
        before = len(tar_reads)
        assert_equal(found, steps_of([plain]))
        del tar_reads[before:]  # those of the plain one
    assert len(tar_reads) == len(set(tar_reads))
    tar_reads.clear()
    (again,) = world(url, 1, **options)
    again.set_epoch(3)
    steps_of([again])
    assert tar_reads == []


def test_a_spoilt_cache_is_read_anew(url: str, tmp_path: Path) -> None:
    steps_of(world(url, 1, cache_dir=str(tmp_path)))
    blocks = [path for path in tmp_path.rglob("*") if re.fullmatch(r"\w{64}-\d+-\d+", path.name)]
    assert blocks
    for number, path in enumerate(blocks):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if number % 2 else data[:-700])
    (loader,) = world(url, 1, cache_dir=str(tmp_path))
    assert_equal(steps_of([loader]), steps_of(world(url, 1)))
    assert all(not batch.damaged for batch in loader)


def test_a_filtered_dataset_with_a_cache_equals_one_without(url: str, tmp_path: Path) -> None:
    for text in FILTERS:
        for _ in range(2):
            cached = world(url, 2, filter=text, cache_dir=str(tmp_path))
            assert_equal(steps_of(cached), steps_of(world(url, 1, filter=text)))


def test_far_rows_are_asked_for_apart_and_near_ones_together(
    url: str, monkeypatch: pytest.MonkeyPatch, tar_reads: list[tuple[str, int, int]]
) -> None:
    dataset = Dataset(url)
    rows = pc.indices_nonzero(pc.is_in(dataset.table(0)["width"], pc.cast([56, 31], "int32"))).to_numpy()
    rows = rows.astype("int64")
    whole = dataset.read_block(0, 0, 11)
    tar_reads.clear()
    assert dataset.read_rows(0, rows) == [whole[row] for row in rows]
    assert len(tar_reads) == 1
    monkeypatch.setattr("pack.dataset.dataset._GAP_BYTES", 0)
    tar_reads.clear()
    assert dataset.read_rows(0, rows) == [whole[row] for row in rows]
    assert len(tar_reads) > 1
    assert sum(length for _, _, length in tar_reads) < dataset.manifest.shards[0].bytes


def test_a_large_block_of_a_local_file_is_read_in_pieces(
    url: str, tar_reads: list[tuple[str, int, int]]
) -> None:
    dataset = Dataset(url)
    whole = dataset.read_block(0, 0, 11)
    tar_reads.clear()
    dataset.piece_bytes = 3 * len(whole[0].real)
    assert dataset.read_block(0, 0, 11) == whole
    assert len(tar_reads) > 1
    fakes = np.zeros(11, np.int64)
    assert dataset.read_block(0, 0, 11, fakes) == Dataset(url).read_block(0, 0, 11, fakes)


def test_everything_at_once_through_the_worker(url: str, other: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"filter": "width != 48", "cache_dir": str(tmp_path), "augment": AUGMENT}
    mix = {url: 1.5, other: 0.5}
    (loader,) = world(mix, 1, workers=1, **options)
    expected = epoch_keys(world(mix, 2, filter="width != 48"))
    assert epoch_keys([loader]) == expected
    loader.close()
