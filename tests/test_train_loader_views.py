"""Several views of a pair: each by draws of its own, cut out of images that are decoded once."""

from typing import Any

import numpy as np
import pytest
import torch
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st
from train_data import AUGMENT, GLOBAL_BATCH, PAIRS, interleaved, make_dataset, world

from pack.dataset.dataset import iterate_pairs
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from train.augment.oracle import oracle
from train.bench.command import BenchConfig, bench
from train.draws.config import AugmentConfig
from train.draws.parameters import view_ids, visit_ids
from train.loader.loader import PairLoader
from train.stream.samples import Sample
from train.window import cutter, images

VIEWS = 3
SEVERAL = AugmentConfig(crop=24, resized_crop_p=0.3, views=VIEWS)
Rows = dict[str, torch.Tensor]  # by key: (V, P, C, H, W)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


def epoch_of(loaders: list[PairLoader]) -> list[Rows]:
    """The views of each pair, step by step over all ranks, in the order of the positions."""
    steps = []
    for batches in zip(*loaders, strict=True):
        keys = interleaved([batch.keys for batch in batches])
        views = [batch.images[batch.mask].unflatten(0, (-1, VIEWS)) for batch in batches if batch.keys]
        steps.append(dict(zip(keys, interleaved([list(one) for one in views]), strict=True)))
    return steps


def merged(steps: list[Rows]) -> Rows:
    return {key: views for step in steps for key, views in step.items()}


@given(
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9, unique=True),
    views=st.integers(1, 5),
)
def test_view_0_has_the_id_of_the_visit_and_the_others_have_ids_of_their_own(
    ids: list[int], views: int
) -> None:
    ids_n = np.array(ids, np.int64)
    found = view_ids(ids_n, views)
    assert found.shape == (len(ids), views)
    np.testing.assert_array_equal(found[:, 0], ids_n)
    np.testing.assert_array_equal(found[:, :1], view_ids(ids_n, 1))
    np.testing.assert_array_equal(found[:1], view_ids(ids_n[:1], views))
    others = np.concatenate([found, visit_ids(ids_n, 1)[:, None]], axis=1)
    assert len(np.unique(others)) == others.size


@pytest.fixture(scope="module")
def expected(url: str) -> Rows:
    """Each view by the published recipe on whole images, one after the other."""
    found = {}
    for pair in iterate_pairs(url):
        real, fake = decode_rgb(pair.real), decode_rgb(pair.fake)
        ids = view_ids(np.array([pair.pair_id], np.uint64).view(np.int64), VIEWS)[0].tolist()
        crops = np.stack([oracle(real, fake, AUGMENT, 5, 2, one) for one in ids])
        found[pair.key] = torch.from_numpy(crops).movedim(-1, 2)
    return found


@pytest.mark.parametrize(("size", "workers"), [(1, 0), (2, 0), (3, 0), (2, 1)])
def test_each_view_is_the_published_recipe_by_its_own_draws_bit_for_bit(
    url: str, expected: Rows, size: int, workers: int
) -> None:
    loaders = world(url, size, augment=SEVERAL, workers=workers)
    for loader in loaders:
        loader.set_epoch(2)
    found = merged(epoch_of(loaders))
    for loader in loaders:
        loader.close()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], views) for key, views in expected.items())


def test_view_0_and_the_order_are_those_of_a_loader_of_one_view(url: str) -> None:
    (one,), (several,) = world(url, 1), world(url, 1, augment=SEVERAL)
    for single, batch in zip(one, several, strict=True):
        assert (batch.keys, len(batch.images)) == (single.keys, VIEWS * GLOBAL_BATCH)
        assert torch.equal(batch.images[::VIEWS], single.images)
        assert all(torch.equal(batch.mask[view::VIEWS], single.mask) for view in range(VIEWS))
        assert not batch.images[~batch.mask].any()
    assert several.pairs == one.pairs
    several.load_state_dict(one.state_dict())


def test_every_world_size_gives_the_same_rows(url: str) -> None:
    first, *others = (epoch_of(world(url, size, augment=SEVERAL)) for size in (1, 2, 6))
    for other in others:
        assert [list(step) for step in other] == [list(step) for step in first]
        assert all(torch.equal(views, merged(first)[key]) for key, views in merged(other).items())


def test_views_differ_and_a_pair_is_decoded_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counted(data: bytes) -> Any:
        decoded.append(data)
        return decode_rgb(data)

    monkeypatch.setattr(images, "decode_rgb", counted)
    found = merged(epoch_of(world(url, 1, augment=SEVERAL)))
    assert len(decoded) == 2 * PAIRS
    for views in found.values():
        assert not any(torch.equal(views[one], views[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


def test_a_damaged_pair_is_masked_in_all_of_its_views_and_named_once(url: str) -> None:
    hurt = [pair.key for pair in iterate_pairs(url)][4:40:9]

    def spoil(sample: Sample) -> Sample:
        return sample | ({"fake.png": b"nothing"} if sample["__key__"] in hurt else {})

    (whole,), (loader,) = (world(url, 1, augment=SEVERAL, stages=steps) for steps in ((), [wds.map(spoil)]))
    for before, after in zip(whole, loader, strict=True):
        lost = torch.tensor([key in hurt for key in before.keys]).repeat_interleave(VIEWS)
        expected = before.mask.clone()
        expected[: len(lost)] &= ~lost
        assert torch.equal(after.mask, expected)
        assert after.keys == [key for key in before.keys if key not in hurt]
        assert sorted(pair.key for pair in after.damaged) == sorted(set(before.keys) & set(hurt))
        assert torch.equal(after.images[after.mask], before.images[after.mask])
        assert not after.images[~after.mask].any()


def test_the_memory_of_the_windows_grows_with_the_views(url: str) -> None:
    (one,), (several,) = world(url, 1), world(url, 1, augment=SEVERAL)
    assert np.prod(several.plan.window_shape) == VIEWS * np.prod(one.plan.window_shape)
    (clean,) = world(url, 1, augment=None, centre_crop=24)
    assert clean.plan.window_shape == (GLOBAL_BATCH, 2, 24, 24, 3)


def test_a_view_can_be_told_where_it_is_cut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told, original = [], cutter.WindowCutter._view

    def watched(self: Any, drawn: cutter.Drawn, view: int, *images: Any) -> Any:
        told.append((drawn.sample["__key__"], view))
        return original(self, drawn, view, *images)

    monkeypatch.setattr(cutter.WindowCutter, "_view", watched)
    (loader,) = world(url, 1, augment=SEVERAL, threads=1)
    keys = [key for batch in loader for key in batch.keys]
    assert told == [(key, view) for key in keys for view in range(VIEWS)]


def test_the_bench_takes_a_pair_for_one_whatever_its_views(url: str) -> None:
    facts = bench(BenchConfig(url=url, pairs=8, batch=4, augment=SEVERAL, oracle=True))
    assert facts["pairs"] == 8
    assert facts["oracle_pairs_per_s"] > 0


@pytest.mark.parametrize("views", [0, -1])
def test_no_view_at_all_is_refused(views: int) -> None:
    with pytest.raises(UserError, match=f"augment.views={views}, expected at least 1"):
        AugmentConfig(views=views)
