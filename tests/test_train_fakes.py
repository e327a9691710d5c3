"""Several fakes of one photograph in training: one a visit, drawn by seed, epoch and pair alone."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from several_fakes import NAMES, pack_fakes, rows_of, write_autoencoders, write_photographs
from train_data import assert_equal, steps_of, world

from pack.dataset.dataset import Dataset, iterate_pairs, open_dataset
from pack.dataset.selection import Selection, select
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from train.draws.fakes import drawn_fakes
from train.evaluation.figures.scores import SHARED
from train.evaluation.inputs.find import open_source
from train.loader.loader import PairLoader
from train.window.geometry import centre_crop

PHOTOS = 29  # divided by no batch, block or lane count below
CLEAN: dict[str, Any] = {"augment": None, "centre_crop": 24, "lanes": 6, "block": 2, "window": 2}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Photographs with all three fakes, in shards of seven."""
    root = tmp_path_factory.mktemp("fakes")
    source = write_photographs(root / "photos", PHOTOS)
    out = pack_fakes(source, root / "packed", write_autoencoders(root / "vae"), "all", shard_pairs=7)
    return str(out)


def crops_of(url: str) -> dict[str, list[bytes]]:
    """By key, the centre crop of each fake."""
    return {
        pair.key: [centre_crop(decode_rgb(data), 24).tobytes() for data in pair.fakes]
        for pair in iterate_pairs(url)
    }


def seen(loaders: list[PairLoader], crops: dict[str, list[bytes]]) -> dict[str, int]:
    """By key, the number of the fake that an epoch gave."""
    found = {}
    for step in steps_of(loaders):
        for key, images in step.items():
            assert key not in found
            found[key] = crops[key].index(images[1].movedim(0, -1).contiguous().numpy().tobytes())
    return found


def test_an_epoch_gives_each_photograph_once_with_the_drawn_fake(url: str) -> None:
    crops, counts, epochs = crops_of(url), Counter[int](), []
    ids = {row["key"]: np.uint64(row["pair_id"]) for row in rows_of(Path(url))}
    (loader,) = world(url, 1, **CLEAN, seed=5)
    for epoch in range(12):
        found = seen([loader], crops)
        assert found.keys() == crops.keys()
        allowed = np.ones((len(ids), 3), np.bool_)
        expected = drawn_fakes(5, epoch, np.array(list(ids.values())).view(np.int64), allowed)
        assert found == dict(zip(ids, expected.tolist(), strict=True))
        counts.update(found.values())
        epochs.append(found)
    assert all(one != other for one, other in pairwise(epochs))
    assert min(counts.values()) > 12 * PHOTOS / 3 * 0.7


@settings(max_examples=6)
@given(size=st.sampled_from([1, 2, 3, 6]), step=st.integers(0, 4), workers=st.sampled_from([0, 0, 0, 1]))
def test_any_world_and_any_resume_draws_the_same_fakes(url: str, size: int, step: int, workers: int) -> None:
    (one,) = world(url, 1)
    expected = steps_of([one])
    first = world(url, 1)[0]
    batches = iter(first)
    for _ in range(step):
        next(batches)
    state = first.state_dict()
    resumed = world(url, size, workers=workers)
    for loader in resumed:
        loader.load_state_dict(state)
    try:
        assert_equal(steps_of(resumed), expected[step:])
    finally:
        for loader in resumed:
            loader.close()


def test_copies_of_a_photograph_in_one_epoch_draw_apart(url: str) -> None:
    (loader,) = world({url: 40.0}, 1, **CLEAN)
    crops, drawn = crops_of(url), dict[str, Counter[int]]()
    for batch in loader:
        for key, images in zip(batch.keys, batch.images[batch.mask], strict=True):
            fake = images[1].movedim(0, -1).contiguous().numpy().tobytes()
            drawn.setdefault(key, Counter()).update([crops[key].index(fake)])
    assert all(sum(one.values()) == 40 and len(one) == 3 for one in drawn.values())


def test_a_cache_and_few_reads_change_no_draw(url: str, tmp_path: Path) -> None:
    expected = steps_of(world(url, 1))
    for _ in range(2):
        assert_equal(steps_of(world(url, 2, cache_dir=str(tmp_path))), expected)


def test_only_the_drawn_fake_is_held_and_named_fake(url: str) -> None:
    samples: list[dict[str, Any]] = []

    def note(sample: dict[str, Any]) -> dict[str, Any]:
        samples.append(sample)
        return sample

    list(*world(url, 1, stages=[wds.map(note)]))
    stored = {pair.key: pair.fakes for pair in iterate_pairs(url)}
    for sample in samples:
        assert {name for name in sample if "__" not in name} == {"real.jpg", "fake.jpg", "json"}
        assert sample["fake.jpg"] == stored[sample["__key__"]][sample["__fake__"]]
    assert {sample["__fake__"] for sample in samples} == {0, 1, 2}


def test_first_gives_the_fakes_of_a_dataset_of_one_fake(url: str) -> None:
    (loader,) = world(url, 1, **CLEAN, fakes="first")
    assert set(seen([loader], crops_of(url)).values()) == {0}
    with pytest.raises(UserError, match="fakes='any', expected drawn or first"):
        world(url, 1, fakes="any")


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_by_autoencoder_leaves_its_fake_of_every_photograph(url: str, name: str) -> None:
    row_of = {row["key"]: row for row in rows_of(Path(url))}
    (loader,) = world(url, 1, **CLEAN, filter=f'autoencoder == "{name}"')
    found = seen([loader], crops_of(url))
    assert found.keys() == row_of.keys()
    for key, number in found.items():
        row = row_of[key]
        assert [row["autoencoder"], *(one["autoencoder"] for one in row["more_fakes"])][number] == name


def test_a_filter_joins_what_it_asks_of_pairs_and_of_fakes(url: str) -> None:
    text = 'width == 32 and autoencoder in ["one", "three"]'
    dataset = Dataset(url)
    selection = select(dataset, text)
    stored = Selection.from_bytes(selection.to_bytes(), dataset.manifest, text)
    assert stored.sha256 == selection.sha256
    rows = rows_of(Path(url))
    assert selection.counts.sum() == sum(row["width"] == 32 for row in rows)
    (loader,) = world(url, 1, **CLEAN, filter=lambda _: stored)
    names = {
        row["key"]: [row["autoencoder"], *(one["autoencoder"] for one in row["more_fakes"])] for row in rows
    }
    for _ in range(3):
        found = seen([loader], crops_of(url))
        assert {names[key][number] for key, number in found.items()} == {"one", "three"}
    other = select(dataset, 'width == 32 and autoencoder == "one"')
    assert other.sha256 != selection.sha256


def test_damage_of_a_fake_masks_the_visits_that_draw_it(url: str, tmp_path: Path) -> None:
    for path in Path(url).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    row = rows_of(tmp_path)[2]
    path = tmp_path / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[row["more_fakes"][0]["offset"] + 30] ^= 1
    path.write_bytes(bytes(data))
    (loader,) = world(str(tmp_path), 1, **CLEAN)
    causes = [[(one.key, one.cause) for batch in loader for one in batch.damaged] for _ in range(12)]
    assert [(row["key"], "CRC-32 of fake2 differs")] in causes
    assert [] in causes
    assert {len(one) for one in causes} == {0, 1}


def test_undrawn_fakes_are_not_read_where_they_are_large(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, read = open_dataset(url), list[int]()
    rows, fakes = np.arange(7), np.array([0, 1, 2, 0, 1, 2, 0])
    expected = dataset.read_rows(0, rows, fakes)
    whole = dataset.read_rows(0, rows)
    for one, every, number in zip(expected, whole, fakes, strict=True):
        assert one.fakes == [every.fakes[number]]  # type: ignore[union-attr]
    monkeypatch.setattr("pack.dataset.dataset._GAP_BYTES", 0)
    store, read_range = type(dataset.store), type(dataset.store).read_range

    def counting(self: Any, name: str, start: int, length: int, **options: Any) -> memoryview:
        read.append(length)
        return read_range(self, name, start, length, **options)

    monkeypatch.setattr(store, "read_range", counting)
    assert dataset.read_rows(0, rows, fakes) == expected
    assert len(read) > 7
    assert sum(read) < 0.6 * dataset.manifest.shards[0].bytes


def test_evaluation_scores_every_fake_in_the_group_of_its_maker(url: str) -> None:
    rows = rows_of(Path(url))
    images = list(open_source(url, "autoencoder").images())
    assert len(images) == open_source(url).total == 4 * PHOTOS
    for row, start in zip(rows, range(0, len(images), 4), strict=True):
        real, *fakes = images[start : start + 4]
        assert (real.name, real.group, real.label) == (f"{row['key']}.real", SHARED, 0)
        assert [one.name for one in fakes] == [f"{row['key']}.{name}" for name in ("fake", "fake2", "fake3")]
        assert [one.group for one in fakes] == [
            row["autoencoder"],
            *(one["autoencoder"] for one in row["more_fakes"]),
        ]
    for image, row in zip(open_source(url, "width").images(), np.repeat(rows, 4), strict=True):  # type: ignore[arg-type]
        assert image.group == str(row["width"])


def test_draws_are_even_and_keep_to_what_is_allowed() -> None:
    ids = np.arange(60_000)
    allowed = np.ones((60_000, 5), np.bool_)
    counts = np.bincount(drawn_fakes(3, 7, ids, allowed), minlength=5)
    assert abs(counts / 12_000 - 1).max() < 0.04
    allowed[:, [0, 3]] = False
    counts = np.bincount(drawn_fakes(3, 7, ids, allowed), minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert abs(counts[[1, 2, 4]] / 20_000 - 1).max() < 0.04
