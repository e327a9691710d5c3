"""`PairLoader`: nothing lost, doubled or reordered between the shard and the step."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from train_data import AUGMENT, GLOBAL_BATCH, ORDER, PAIRS, assert_equal, make_dataset, steps_of, world

from pack.dataset.dataset import iterate_pairs
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from train.augment.oracle import oracle
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader
from train.loader.transfer import Batch
from train.stream.samples import Sample
from train.window.geometry import centre_crop


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("pairs"), pairs=PAIRS, shard_pairs=11)


def all_keys(url: str) -> list[str]:
    return [pair.key for pair in iterate_pairs(url)]


@given(
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 3),
    lanes=st.sampled_from([6, 12, 60]),
    block=st.integers(1, 9),
    window=st.integers(1, 3),
    per_rank=st.integers(1, 4),
)
@settings(max_examples=5, deadline=None)
def test_every_world_size_sees_the_same_pairs_at_each_step(
    url: str, seed: int, epoch: int, lanes: int, block: int, window: int, per_rank: int
) -> None:
    lines = []
    for size in (1, 2, 3):
        loaders = world(
            url, size, seed=seed, lanes=lanes, block=block, window=window, batch_size=6 * per_rank // size
        )
        for loader in loaders:
            loader.set_epoch(epoch)
        lines.append([list(step) for step in steps_of(loaders)])
    assert lines[0] == lines[1] == lines[2]
    assert sorted(chain(*lines[0])) == sorted(all_keys(url))
    assert len(lines[0]) == len(loaders[0])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_make_equal_steps_and_only_the_last_slots_are_masked(url: str, size: int) -> None:
    ranks = [list(loader) for loader in world(url, size, batch_size=4)]
    assert {len(batches) for batches in ranks} == {-(-PAIRS // (4 * size))}
    for batches in ranks:
        assert all(batch.mask.all() for batch in batches[:-1])
        last = batches[-1]
        assert last.mask.tolist() == sorted(last.mask.tolist(), reverse=True)
        assert len(last.keys) == int(last.mask.sum())
        assert last.images.shape == (4, 2, 3, 24, 24)
        assert not last.images[~last.mask].any()
    masked = sum(int((~batches[-1].mask).sum()) for batches in ranks)
    assert masked == len(ranks[0]) * 4 * size - PAIRS > 0


def test_a_rank_without_a_pair_still_makes_every_step(url: str) -> None:
    loaders = world(url, 3, batch_size=23)  # 47 pairs in steps of 69, on the slots of one step
    assert [int(batch.mask.sum()) for loader in loaders for batch in loader] == [16, 16, 15]
    loaders = world(url, 48, batch_size=1, lanes=48, block=1)[44:]
    assert [batch.mask.tolist() for loader in loaders for batch in loader] == [[True]] * 3 + [[False]]


def plain_pipeline(url: str, augment: AugmentConfig | None, seed: int, epoch: int) -> dict[str, torch.Tensor]:
    """Every pair's images, one pair at a time, the augmentation on whole images."""
    images = {}
    for pair in iterate_pairs(url):
        both = [decode_rgb(pair.real), decode_rgb(pair.fake)]
        if augment is None:
            crops = np.stack([centre_crop(one, 28) for one in both])
            images[pair.key] = torch.from_numpy(crops).movedim(-1, 1)
            continue
        signed_id = int(np.uint64(pair.pair_id).astype(np.int64))
        crops = oracle(both[0], both[1], augment, seed, epoch, signed_id)
        images[pair.key] = torch.from_numpy(crops).movedim(-1, 1)
    return images


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (1, {"batch_size": 1, "threads": 1}),
        (1, {"batch_size": 47, "threads": 4}),
        (2, {"batch_size": 5, "threads": 3, "read_ahead_mb": 1}),
        (3, {"batch_size": 4, "lanes": 192, "block": 16}),
        (2, {"augment": None, "centre_crop": 28}),
    ],
)
def test_images_equal_a_plain_pipeline_bit_for_bit(url: str, size: int, options: dict[str, Any]) -> None:
    loaders = world(url, size, **options)
    for loader in loaders:
        loader.set_epoch(2)
    expected = plain_pipeline(url, options.get("augment", AUGMENT), seed=5, epoch=2)
    found = {key: image for step in steps_of(loaders) for key, image in step.items()}
    assert found.keys() == expected.keys()
    for key, image in expected.items():
        torch.testing.assert_close(found[key], image, rtol=0, atol=0)


def test_epochs_differ_and_set_epoch_goes_to_one(url: str) -> None:
    (loader,) = world(url, 1)
    first, second = steps_of([loader]), steps_of([loader])
    assert loader.epoch == 2
    assert list(chain(*first)) != list(chain(*second))
    merged_first = {key: image for step in first for key, image in step.items()}
    merged_second = {key: image for step in second for key, image in step.items()}
    assert any(not torch.equal(merged_first[key], merged_second[key]) for key in merged_first)
    loader.set_epoch(0)
    assert_equal(steps_of([loader]), first)


def test_seeds_differ(url: str) -> None:
    orders = [list(chain(*steps_of(world(url, 1, seed=seed)))) for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_every_state_gives_the_very_tail_on_any_world_size(url: str) -> None:
    (loader,) = world(url, 1)
    states, first = [loader.state_dict()], []
    for batch in loader:
        first.append(dict(zip(batch.keys, batch.images[batch.mask], strict=True)))
        states.append(loader.state_dict())
    second = steps_of([loader])
    assert len(states) == len(loader) + 1
    for done, state in enumerate(states):
        loaders = world(url, 1 + done % 3)
        for one in loaders:
            one.load_state_dict(json.loads(json.dumps(state)))
        tail = first[done:] or second  # the state after the last step begins the next epoch
        assert_equal(steps_of(loaders), tail)
    assert (states[-1]["epoch"], states[-1]["step"]) == (1, 0)


def test_a_resumed_epoch_goes_over_into_the_next(url: str) -> None:
    (whole,) = world(url, 1)
    expected = [steps_of([whole])[5:], steps_of([whole])]
    resumed = world(url, 3)
    for loader in resumed:
        loader.load_state_dict(whole.state_dict() | {"epoch": 0, "step": 5})
    assert_equal(steps_of(resumed), expected[0])
    assert_equal(steps_of(resumed), expected[1])


def test_a_loop_that_another_overtook_says_so(url: str) -> None:
    (loader,) = world(url, 1)
    first, second = iter(loader), iter(loader)
    next(first)
    next(second)
    with pytest.raises(UserError, match="started anew while this loop still ran"):
        next(first)


def test_a_state_counts_what_the_trainer_took_not_what_was_read_ahead(url: str) -> None:
    (loader,) = world(url, 1)
    batches = iter(loader)
    next(batches)
    next(batches)
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (0, 2)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"seed": 6}, "state has seed=5, this loader 6"),
        ({"lanes": 12}, "state has lanes=6, this loader 12"),
        ({"block": 3}, "state has block=2, this loader 3"),
        ({"window": 1}, "state has window=2, this loader 1"),
        ({"batch_size": 7}, "state has global_batch=6, this loader 7"),
    ],
)
def test_a_state_of_another_order_is_refused_by_name(
    url: str, changed: dict[str, int], complaint: str
) -> None:
    state = world(url, 1)[0].state_dict()
    with pytest.raises(UserError, match=complaint):
        world(url, 1, **changed)[0].load_state_dict(state)


def test_a_state_of_another_dataset_is_refused(url: str, tmp_path: Path) -> None:
    other = make_dataset(tmp_path, pairs=7, shard_pairs=4)
    with pytest.raises(UserError, match=r"state has manifests=\['\w+'\], this loader \['\w+'\]; the order"):
        world(other, 1)[0].load_state_dict(world(url, 1)[0].state_dict())


def test_stages_of_webdataset_see_ordinary_samples(url: str) -> None:
    seen: list[Sample] = []

    def note(sample: Sample) -> Sample:
        seen.append(sample)
        return sample

    with_stage = steps_of(world(url, 1, stages=[wds.map(note)]))
    assert_equal(with_stage, steps_of(world(url, 1)))
    assert [sample["__key__"] for sample in seen] == list(chain(*with_stage))
    for sample in seen:
        assert isinstance(sample["real.png"], bytes)
        assert isinstance(sample["fake.png"], bytes)
        assert json.loads(sample["json"])["key"] == sample["__key__"]
        assert sample["__url__"].startswith(f"{url}/shard-")


def test_a_stage_may_change_the_images(url: str) -> None:
    def fake_becomes_real(sample: Sample) -> Sample:
        return sample | {"fake.png": sample["real.png"]}

    for step in steps_of(world(url, 2, stages=[wds.map(fake_becomes_real)])):
        assert all(torch.equal(image[0], image[1]) for image in step.values())


Stage = Callable[[Iterator[Sample]], Iterator[Any]]


def drop_one(samples: Iterator[Sample]) -> Iterator[Sample]:
    return (sample for sample in samples if sample["__position__"] != 20)


def drop_last(samples: Iterator[Sample]) -> Iterator[Sample]:
    return (sample for sample in samples if sample["__position__"] != PAIRS - 1)


def double_one(samples: Iterator[Sample]) -> Iterator[Sample]:
    return (copy for sample in samples for copy in repeat(sample, 1 + (sample["__position__"] == 20)))


def double_last(samples: Iterator[Sample]) -> Iterator[Sample]:
    return (copy for sample in samples for copy in repeat(sample, 1 + (sample["__position__"] == PAIRS - 1)))


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        (drop_one, "stages gave position 21, expected position 20"),
        (drop_last, f"stages gave nothing, expected position {PAIRS - 1}"),
        (double_one, "stages gave position 20, expected position 21"),
        (double_last, f"stages gave position {PAIRS - 1}, expected nothing"),
        (wds.shuffle(10), r"stages gave position \d+, expected position \d+"),
        (wds.to_tuple("real.png", "fake.png"), "stages gave a tuple, expected position 0"),
    ],
)
def test_a_stage_that_loses_doubles_or_moves_a_sample_is_named(
    url: str, stage: Stage, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        list(*world(url, 1, stages=[stage]))


def test_a_stage_that_takes_an_image_away_is_named(url: str) -> None:
    def without_fake(sample: Sample) -> Sample:
        return {name: value for name, value in sample.items() if name != "fake.png"}

    with pytest.raises(UserError, match=r"^key '\S+' has no bytes under fake\.\*; check your stages$"):
        list(*world(url, 1, stages=[wds.map(without_fake)]))


def assert_soon_no_thread_but(before: set[int | None]) -> None:
    """What was being read may still come in; then its thread ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not {thread.ident for thread in threading.enumerate()} <= before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def threads_now() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate()}


def test_an_exception_while_reading_comes_out_in_the_loop(url: str) -> None:
    def fail(sample: Sample) -> Sample:
        return sample if sample["__position__"] < 20 else 1 / 0  # type: ignore[return-value]

    before = threads_now()
    taken: list[Batch] = []
    with pytest.raises(ZeroDivisionError):
        taken.extend(*world(url, 1, stages=[wds.map(fail)]))
    assert len(taken) <= 20 // GLOBAL_BATCH
    assert_soon_no_thread_but(before)


@pytest.mark.parametrize("steps", [0, 1, 3, 8])
def test_leaving_the_loop_leaves_no_thread(url: str, steps: int) -> None:
    before = threads_now()
    (loader,) = world(url, 1)
    batches = iter(loader)
    for _ in range(steps):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert_soon_no_thread_but(before)
    for _ in loader:
        break
    assert_soon_no_thread_but(before)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"world_size": 4}, "lanes=6 is not a multiple of the world size 4; use 4 or 8"),
        ({"world_size": 7}, "lanes=6 is not a multiple of the world size 7; use 7"),
        ({"world_size": 0}, "world_size=0, expected at least 1"),
        ({"world_size": 2, "rank": 2}, "rank=2, expected 0 <= rank < world_size=2"),
        ({"batch_size": 0}, "batch_size=0, expected at least 1"),
        ({"threads": 0}, "threads=0, expected at least 1"),
    ],
)
def test_numbers_that_can_not_be_are_refused(url: str, options: dict[str, int], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        PairLoader(url, **{**ORDER, "batch_size": 2, **options})
