"""Optimisers, their learning rates, and gradients in pieces."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR
from train_ranks import CONFIG, plain_model, random_batch, rank_share, run_two_ranks

from recon.base.errors import UserError
from train.evaluation.metrics import Summary
from train.loop.trainee import Trainee
from train.model.build import build_model
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.optim.optimizer import build_optimizer, rate_at, warmup_steps
from train.optim.schedule import Schedule
from train.world.world import World, open_world


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


SUMMARY = Summary(
    ap=0.5, auc=0.5, accuracy=0.5, real_accuracy=0.5, fake_accuracy=0.5, balanced_accuracy=0.5,
    n_real=1, n_fake=1,
)  # fmt: skip


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 1))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_weight_decay_spares_biases_and_norms(name: Any) -> None:
    made = model()
    made[0].bias.requires_grad_(False)  # type: ignore[union-attr,operator]  # is not trained
    optimizer = build_optimizer(made, OptimConfig(optimizer=name, weight_decay=0.1, lr=0.5))
    decays = {
        id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]
    }
    found = {key: decays.get(id(weight)) for key, weight in made.named_parameters()}
    assert found == {
        "0.weight": 0.1, "0.bias": None, "1.weight": 0.0, "1.bias": 0.0, "3.weight": 0.1, "3.bias": 0.0,
    }  # fmt: skip
    [plain] = build_optimizer(model(), OptimConfig(optimizer=name)).param_groups
    assert plain["weight_decay"] == 0.0
    assert plain.get("momentum", 0.9) == 0.9


@given(warmup=st.integers(0, 5), total=st.integers(1, 20), kind=st.sampled_from(["cosine", "linear"]))
def test_rates_are_those_of_torchs_schedules_after_a_straight_warm_up(
    warmup: int, total: int, kind: Any
) -> None:
    config = OptimConfig(lr=0.5, min_lr=0.1, schedule=kind)
    end = warmup + total
    rates = [rate_at(step, rate=0.5, warmup=warmup, total=end, config=config) for step in range(end + 2)]
    assert rates[:warmup] == pytest.approx([0.5 * (step + 1) / warmup for step in range(warmup)])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule: Any = (
        CosineAnnealingLR(optimizer, T_max=total, eta_min=0.1)
        if kind == "cosine"
        else LinearLR(optimizer, start_factor=1.0, end_factor=0.2, total_iters=total)
    )
    for rate in rates[warmup : end + 1]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[-1] == pytest.approx(0.1)  # a run that is lengthened later does not rise again


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    Schedule(optimizer, OptimConfig(warmup_steps=8), steps=4, epochs=2)
    with pytest.raises(UserError, match="a warm-up of 9 steps, but the run has 8"):
        Schedule(optimizer, OptimConfig(warmup_steps=9), steps=4, epochs=2)
    with pytest.raises(UserError, match="a warm-up of 12 steps, but the run has 8"):
        Schedule(optimizer, OptimConfig(warmup_epochs=3), steps=4, epochs=2)


def shares(optimizer: torch.optim.Optimizer, made: nn.Module) -> dict[str, tuple[float, float]]:
    """Of each weight its share of the rate and its decay."""
    found = {
        id(weight): (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    return {name: found[id(weight)] for name, weight in made.named_parameters()}


def test_the_layers_of_a_transformer_have_the_rates_that_timm_gives_them() -> None:
    pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    made = build_model(ModelConfig(backbone="timm:test_vit"))
    optimizer = build_optimizer(made, OptimConfig(lr=0.5, layer_decay=0.8, weight_decay=0.1))
    theirs: Any = made.get_submodule("timm")
    oracle: Any = torch.optim.Adam(
        param_groups_layer_decay(theirs, weight_decay=0.1, layer_decay=0.8), lr=0.5
    )
    expected = {f"timm.{name}": both for name, both in shares(oracle, theirs).items()}
    assert shares(optimizer, made) == expected
    assert [group["lr"] for group in optimizer.param_groups] == [
        0.5 * group["lr_scale"] for group in optimizer.param_groups
    ]


def test_the_stages_of_a_resnet_are_its_layers_head_first() -> None:
    made = build_model(ModelConfig(backbone="res18nodown"))
    for part in (made.get_submodule("layer1"), made.get_submodule("conv1")):
        part.requires_grad_(False)  # is not trained, and changes no other layer's rate
    optimizer = build_optimizer(made, OptimConfig(lr=1.0, layer_decay=0.5))
    names = {id(weight): name.split(".")[0] for name, weight in made.named_parameters()}
    found = [({names[id(one)] for one in group["params"]}, group["lr"]) for group in optimizer.param_groups]
    assert found == [
        ({"fc"}, 1.0), ({"layer4"}, 0.5), ({"layer3"}, 0.25), ({"layer2"}, 0.125), ({"bn1"}, 0.03125),
    ]  # fmt: skip


def test_each_rate_of_the_schedule_is_shared_among_the_layers() -> None:
    made = build_model(ModelConfig(backbone="highpass"))
    config = OptimConfig(lr=0.5, layer_decay=0.5, warmup_steps=2, patience=1, best_by="auc")
    optimizer = build_optimizer(made, config)
    schedule = Schedule(optimizer, config, steps=2, epochs=9)
    wanted = [0.25, 0.5, 0.5, 0.5, 0.5 * 0.1]
    for step, rate in enumerate(wanted):
        if step == 3:
            schedule.turn(SUMMARY, 0)
        elif step == 4:
            schedule.turn(replace(SUMMARY, auc=0.4), 1)
        schedule.set_rate(step)
        assert [group["lr"] for group in optimizer.param_groups] == [rate * 0.5**depth for depth in range(5)]
    assert schedule.rate == 0.5 * 0.1


def test_a_layer_decay_without_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"optim.layer_decay=0.5 would be ignored: model.train=head"):
        replace(CONFIG, model=ModelConfig(train="head"), optim=OptimConfig(layer_decay=0.5))


@pytest.mark.parametrize("kind", ["constant", "plateau"])
def test_other_schedules_leave_the_rate_after_the_warm_up(kind: Any) -> None:
    config = OptimConfig(lr=0.5, schedule=kind, warmup_epochs=0.3)
    assert warmup_steps(config, 10) == 3
    rates = [rate_at(step, rate=0.4, warmup=3, total=100, config=config) for step in (0, 2, 3, 99)]
    assert rates == pytest.approx([0.4 / 3, 0.4, 0.4, 0.4])
    assert warmup_steps(OptimConfig(warmup_steps=7), 10) == 7


class Double(nn.Module):
    """A model in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain_model().double()

    def forward(self, x_N3HW: torch.Tensor) -> torch.Tensor:
        logit_N: torch.Tensor = self.inner(x_N3HW.double())
        return logit_N


def trained(world: World, optim: OptimConfig, share: Any, valid: int) -> dict[str, torch.Tensor]:
    """The weights after 20 steps of 64 pairs; every third step has `valid` of them only."""
    one = Trainee(Double(), replace(CONFIG, optim=optim), world)
    for step in range(20):
        one.step(share(random_batch(64, seed=step, valid=64 if step % 3 else valid)), step)
    return one.module.state_dict()


def two_rank_job(world: World) -> dict[str, Any]:
    """Steps in pieces on two ranks, one of which has no pair at times."""
    optim = OptimConfig(lr=0.01, accumulate=3)
    return trained(world, optim, lambda batch: rank_share(batch, world.rank), 1)


@pytest.mark.parametrize(
    "optim", [{"optimizer": "adamw", "weight_decay": 0.1}, {"optimizer": "sgd", "clip": 0.01}]
)
@pytest.mark.parametrize(("pieces", "valid"), [(4, 64), (3, 2), (8, 0)])
def test_gradients_in_pieces_are_those_of_the_whole_batch(
    world: World, optim: dict[str, Any], pieces: int, valid: int
) -> None:
    whole, parts = (
        trained(world, OptimConfig(lr=0.01, accumulate=count, **optim), lambda batch: batch, valid)
        for count in (1, pieces)
    )
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-9)


def test_pieces_on_two_ranks_give_the_weights_of_one_process(world: World, tmp_path: Path) -> None:
    expected = trained(world, OptimConfig(lr=0.01), lambda batch: batch, 1)
    first, second = run_two_ranks(two_rank_job, tmp_path)
    for name in expected:
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("clip", "scale"), [(1e-4, None), (1e9, 1.0)])
def test_a_larger_gradient_is_scaled_down_to_the_norm(world: World, clip: float, scale: float | None) -> None:
    def moved(optim: OptimConfig) -> float:
        one = Trainee(plain_model(), replace(CONFIG, optim=optim), world)
        before = nn.utils.parameters_to_vector(one.module.parameters()).detach()
        one.step(random_batch(4, seed=1), 0)
        return float((nn.utils.parameters_to_vector(one.module.parameters()).detach() - before).norm())

    free = moved(OptimConfig(optimizer="sgd", lr=1.0))
    assert moved(OptimConfig(optimizer="sgd", lr=1.0, clip=clip)) == pytest.approx(
        free if scale else clip, rel=1e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "optim.accumulate=0, expected at least 1"),
        ({"clip": 0.0}, "optim.clip=0.0, expected more than 0"),
        ({"weight_decay": -1.0}, "optim.weight_decay=-1.0, expected 0 or more"),
        ({"weight_decay": math.nan}, "optim.weight_decay=nan, expected 0 or more"),
        ({"momentum": 0.5}, "optim.momentum"),
        ({"optimizer": "sgd", "momentum": 1.0}, "optim.momentum=1.0, expected 0 <= momentum < 1"),
        ({"ema": 1.0}, "optim.ema=1.0, expected 0 <= ema < 1"),
        ({"warmup_steps": 3, "warmup_epochs": 1.0}, "optim.warmup_epochs"),
        ({"stop_after": 0}, "optim.stop_after=0, expected at least 1"),
        ({"layer_decay": 0.0}, "optim.layer_decay=0.0, expected 0 < layer_decay <= 1"),
        ({"layer_decay": 1.5}, "optim.layer_decay=1.5, expected 0 < layer_decay <= 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OptimConfig(**options)
