"""One step on one process and on two: what is summed, what is left out, what is shared."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from train_ranks import (
    CONFIG,
    NanOnBlack,
    Weights,
    batch_of,
    black,
    gradients,
    plain_model,
    random_batch,
    run_two_ranks,
    trainee,
    two_rank_job,
)

from recon.base.errors import UnreachableError
from train.draws.config import AugmentConfig
from train.loader.transfer import Batch
from train.loop.trainee import Trainee
from train.model.normalize import normalize
from train.world.world import World, open_world

TOLERANCE = {"rtol": 1e-5, "atol": 1e-7}  # sums in another order, float32


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two gloo ranks found."""
    return run_two_ranks(two_rank_job, tmp_path_factory.mktemp("ranks"))


def only_valid(batch: Batch) -> Batch:
    return batch_of(batch.valid, torch.ones(len(batch.valid), dtype=torch.bool))


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE)


def is_equal(one: Any, other: Any) -> bool:
    """Bitwise, through dicts and lists of tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return bool(one == other)


@given(slots=st.integers(1, 6), data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_masked_tail_changes_nothing(world: World, slots: int, data: st.DataObject) -> None:
    batch = random_batch(slots, seed=slots, valid=data.draw(st.integers(1, slots)))
    (found, masked), (expected, valid) = gradients(world, batch), gradients(world, only_valid(batch))
    assert_close(found, expected)
    assert (masked.loss_sum, masked.images) == (valid.loss_sum, valid.images)
    assert masked.images == 2 * len(batch.keys)


def test_each_image_weighs_as_in_the_mean_over_a_full_step(world: World) -> None:
    batch = random_batch(5, seed=3, valid=3)
    share = 3 / CONFIG.order.global_batch
    model = plain_model()
    logit_N = model(normalize(batch.images[batch.mask].flatten(0, 1)))
    label_N = torch.tensor([0.0, 1.0] * 3)  # real, fake
    loss = functional.binary_cross_entropy_with_logits(logit_N, label_N)
    loss.backward()
    found, result = gradients(world, batch)
    # The rate of 1 is for gradients of ordinary size; a share of one leaves fewer digits.
    expected = {name: share * weight.grad for name, weight in model.named_parameters()}  # type: ignore[operator]
    assert_close(found, expected)
    assert result.loss_sum / result.images == pytest.approx(loss.item(), rel=1e-6)


def test_a_step_without_a_pair_leaves_everything(world: World) -> None:
    one = trainee(NanOnBlack(), world)
    one.step(random_batch(3, seed=0), 0)
    before = copy.deepcopy((one.module.state_dict(), one.optimizer.state_dict()))
    result = one.step(random_batch(3, seed=0, valid=0), 1)
    assert (result.images, result.applied) == (0, False)
    assert is_equal(list(before), [one.module.state_dict(), one.optimizer.state_dict()])


def test_a_step_without_a_pair_gives_the_model_the_size_that_it_takes(world: World) -> None:
    crop = AugmentConfig(kornia=[{"name": "CenterCrop", "size": [8, 8], "p": 1.0}])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 1), torch.nn.Flatten(0))
    one = Trainee(model, replace(CONFIG, augment=crop), world)
    assert one.step(random_batch(3, seed=0), 0).applied
    assert not one.step(random_batch(3, seed=0, valid=0), 1).applied


def test_a_non_finite_loss_leaves_weights_statistics_and_optimiser(world: World) -> None:
    one, good = trainee(NanOnBlack(), world), random_batch(3, seed=0)
    assert one.step(good, 0).applied
    before = copy.deepcopy((one.module.state_dict(), one.optimizer.state_dict()))
    result = one.step(black(good), 1)
    assert not result.applied
    assert result.loss_sum != result.loss_sum  # NaN
    assert is_equal(list(before), [one.module.state_dict(), one.optimizer.state_dict()])
    assert one.step(good, 2).applied


def test_dropout_repeats_with_the_number_of_the_step(world: World) -> None:
    def losses(numbers: list[int]) -> list[float]:
        model = torch.nn.Sequential(plain_model()[:-2], torch.nn.Dropout(0.5), plain_model()[-2:])  # type: ignore[index]
        one = trainee(model, world)
        one.optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=True)
        return [one.step(random_batch(3, seed=0), number).loss_sum for number in numbers]

    first, second, again = losses([0, 1, 0])
    assert first == again
    assert first != second


def test_two_ranks_average_to_the_gradients_of_their_union(world: World, ranks: list[dict[str, Any]]) -> None:
    expected, alone = gradients(world, random_batch(7, seed=1, valid=5))
    for found in ranks:
        weights, result = found["union"]
        assert_close(weights, expected)
        assert result.images == alone.images == 10
        assert result.loss_sum == pytest.approx(alone.loss_sum, rel=1e-6)


def test_a_rank_without_a_pair_takes_the_gradients_of_the_other(
    world: World, ranks: list[dict[str, Any]]
) -> None:
    expected, alone = gradients(world, random_batch(3, seed=2))
    for found in ranks:
        weights, result = found["one rank only"]
        assert_close(weights, expected)
        assert (result.images, result.applied) == (alone.images, True)


def test_a_non_finite_loss_on_one_rank_is_left_out_on_both(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert [result.applied for result in found["spoilt"]] == [True, False, True]
        assert is_equal(*found["before and after"])


def buffers(state: Weights) -> Weights:
    return {name: value for name, value in state.items() if "running" in name}


def weights(state: Weights) -> Weights:
    return {name: value for name, value in state.items() if "running" not in name}


def test_statistics_are_each_ranks_own_until_validation(ranks: list[dict[str, Any]]) -> None:
    trained, validated = ([found[when] for found in ranks] for when in ("trained", "validated"))
    assert is_equal(weights(trained[0]), weights(trained[1]))
    assert not is_equal(buffers(trained[0]), buffers(trained[1]))
    assert is_equal(validated[0], validated[1])
    assert is_equal(validated[0], trained[0])  # rank 0's


def test_equal_steps_on_two_ranks_give_equal_bits(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert is_equal(found["trained"], found["again"])


def test_validation_counts_every_valid_pair_of_both_ranks(ranks: list[dict[str, Any]]) -> None:
    first, second = (found["summary"] for found in ranks)
    assert first == second
    assert (first.n_real, first.n_fake) == (10, 10)


def test_damage_and_a_wish_to_end_reach_both_ranks_in_the_step(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert [(result.damaged, result.stop) for result in found["told"]] == [(2, False), (0, True)]


def test_both_ranks_learn_what_one_knows(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert found["any"] == (True, False)
        assert found["from first"] == b"bytes of rank 0"
        assert found["missed"] == (UnreachableError, "the bucket is away")
        assert found["objects"] == [{"rank": 0}, {"rank": 1}]  # and so neither hung after rank 0's error
