"""Steps on several views of a pair, with losses that compare images, on one rank and on two."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from train_ranks import CONFIG, Weights, random_batch, run_two_ranks
from train_runs import same_bits

from train.draws.config import AugmentConfig
from train.loader.transfer import Batch
from train.loop.config import TrainConfig
from train.loop.trainee import StepResult, Trainee
from train.model.build import build_model
from train.model.features import WithFeatures
from train.model.normalize import normalize
from train.optim.config import LossConfig
from train.optim.losses import pair_loss
from train.world.world import World, open_world

VIEWS = 3
ALL = LossConfig(bce=0.5, ranking=0.3, contrastive=0.4, temperature=0.5, drct=0.6, consistency=2.0)
SEVERAL = replace(CONFIG, augment=AugmentConfig(views=VIEWS), loss=ALL)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


def small_model() -> nn.Module:
    """No BatchNorm and no dropout; its last layer has the name that the last layers of ours have."""
    torch.manual_seed(1)
    pool, flat = nn.AdaptiveAvgPool2d(2), nn.Flatten()
    parts = {
        "conv": nn.Conv2d(3, 6, 3),
        "tanh": nn.Tanh(),
        "pool": pool,
        "flat": flat,
        "fc": nn.Linear(24, 1),
    }
    return nn.Sequential(OrderedDict(parts | {"logit": nn.Flatten(0)}))


def batch_of(pairs: int, seed: int, valid: int | None = None) -> Batch:
    """A batch with `VIEWS` rows for each of its pairs."""
    rows = random_batch(pairs * VIEWS, seed, None if valid is None else valid * VIEWS)
    return replace(rows, keys=rows.keys[::VIEWS])


def step_of(world: World, batch: Batch, config: TrainConfig = SEVERAL) -> tuple[Weights, StepResult]:
    """The gradients of one step, averaged over the ranks."""
    one = Trainee(small_model(), config, world)
    one.optimizer = torch.optim.SGD(one.module.parameters(), lr=1.0, fused=True)
    before = {name: weight.detach().clone() for name, weight in one.module.named_parameters()}
    result = one.step(batch, 0)
    return {name: before[name] - weight.detach() for name, weight in one.module.named_parameters()}, result


def plain_step(batches: list[Batch]) -> tuple[Weights, float]:
    """The gradients and the loss of a step of ranks that have these batches, without DDP, masks or hooks."""
    model, total = small_model(), 0.0
    for batch in batches:
        valid = batch.images[batch.mask]
        if not len(valid):
            continue
        feature_ND = model[:-2](normalize(valid.flatten(0, 1)))  # type: ignore[index]
        logit_N = model[-2:](feature_ND)  # type: ignore[index]
        shape = (len(valid) // VIEWS, VIEWS, 2)
        loss = pair_loss(logit_N.view(shape), ALL, feature_ND.view(*shape, -1))
        total += loss.item()
        (loss / (2 * VIEWS * CONFIG.order.global_batch)).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}, total  # type: ignore[misc]


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=3e-7)


def two_rank_job(world: World) -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["both"] = step_of(world, batch_of(3, seed=10 + world.rank, valid=3 - world.rank))
    found["one"] = step_of(world, batch_of(3, seed=20, valid=3 - 3 * world.rank))
    return found


@pytest.mark.parametrize("valid", [4, 3, 1])
def test_a_step_descends_all_terms_over_the_valid_rows_alone(world: World, valid: int) -> None:
    batch = batch_of(4, seed=3, valid=valid)
    (found, result), (expected, loss) = step_of(world, batch), plain_step([batch])
    assert_close(found, expected)
    assert (result.images, result.pairs, result.applied) == (2 * VIEWS * valid, valid, True)
    assert result.loss_sum == pytest.approx(loss, rel=1e-5)


def test_ranks_compare_their_own_images_and_average(tmp_path: Path) -> None:
    ranks = run_two_ranks(two_rank_job, tmp_path)
    both = plain_step([batch_of(3, seed=10, valid=3), batch_of(3, seed=11, valid=2)])
    one = plain_step([batch_of(3, seed=20, valid=3)])  # the other rank has no pair, and adds nothing
    for found in ranks:
        for name, (expected, loss), pairs in (("both", both, 5), ("one", one, 3)):
            weights, result = found[name]
            assert_close(weights, expected)
            assert (result.pairs, result.applied) == (pairs, True)
            assert result.loss_sum == pytest.approx(loss, rel=1e-5)


def test_views_of_a_pair_stay_together_in_pieces_of_a_batch(world: World) -> None:
    config = replace(SEVERAL, loss=LossConfig(consistency=3.0, ranking=0.5))
    pieces = replace(config, optim=replace(config.optim, accumulate=3))
    for valid in (4, 2):  # of two pairs, one of three pieces is empty
        (whole, once), (found, thrice) = (
            step_of(world, batch_of(4, 5, valid), each) for each in (config, pieces)
        )
        assert_close(found, whole)
        assert thrice.loss_sum == pytest.approx(once.loss_sum, rel=1e-5)


def test_a_step_without_a_pair_and_one_that_is_not_finite_leave_the_weights(world: World) -> None:
    one = Trainee(small_model(), SEVERAL, world)
    before = {name: value.clone() for name, value in one.module.state_dict().items()}
    empty = one.step(batch_of(2, seed=0, valid=0), 0)
    assert (empty.images, empty.pairs, empty.applied) == (0, 0, False)
    one.module.fc.weight.data[0, 0] = torch.inf  # type: ignore[union-attr,index]
    spoilt = {name: value.clone() for name, value in one.module.state_dict().items()}
    assert not one.step(batch_of(2, seed=0), 1).applied
    assert same_bits(dict(one.module.state_dict()), spoilt)
    one.module.load_state_dict(before)
    assert one.step(batch_of(2, seed=0), 2).applied


def test_losses_are_in_float32_whatever_autocast_gives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[tuple[torch.dtype, torch.dtype]] = []

    def watched(logits: torch.Tensor, config: LossConfig, features: torch.Tensor) -> torch.Tensor:
        kinds.append((logits.dtype, features.dtype))
        return pair_loss(logits, config, features)

    monkeypatch.setattr("train.loop.trainee.pair_loss", watched)
    weights, _ = step_of(world, batch_of(4, seed=3), replace(SEVERAL, precision="bfloat16"))
    assert kinds == [(torch.float32, torch.float32)]
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_features_are_taken_where_a_loss_needs_them_and_no_name_changes(world: World) -> None:
    plain, several = (
        Trainee(build_model(config.model), config, world)
        for config in (replace(SEVERAL, loss=LossConfig(consistency=1.0)), SEVERAL)
    )
    assert not isinstance(plain.ddp.module, WithFeatures)
    assert isinstance(several.ddp.module, WithFeatures)
    assert several.weights()["model"].keys() == build_model(SEVERAL.model).state_dict().keys()
    several.step(batch_of(2, seed=0), 0)
    assert several.ddp.module._feature_ND is None  # nothing is held between the steps


@pytest.mark.parametrize("name", ["highpass", "res18nodown", "timm:vit_tiny_patch16_224", "timm:resnet18"])
def test_features_are_what_the_last_layer_gets(name: str) -> None:
    config = replace(CONFIG.model, backbone=name)
    model = build_model(config).eval()
    image = torch.randn(2, 3, 32, 32)
    logit_N, feature_ND = WithFeatures(model)(image)
    last = dict(model.named_modules())["timm"].get_classifier() if "timm" in name else model.fc
    assert torch.equal(logit_N, model(image))
    assert torch.equal(last(feature_ND)[:, 0], logit_N)


def test_a_compiled_step_is_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = step_of(world, batch_of(3, seed=3))
    # Without code generation, which takes a minute; what can fail is following the hook.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found, _ = step_of(world, batch_of(3, seed=3), replace(SEVERAL, compile=True))
    assert_close(found, expected)
