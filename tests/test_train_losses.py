"""The losses of a pair beside plain loops over numbers."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train_ranks import CONFIG, plain_model, random_batch

from recon.base.errors import UserError
from train.loop.trainee import Trainee
from train.model.normalize import normalize
from train.optim.config import LossConfig
from train.optim.losses import cross_entropy, pair_loss, ranking
from train.world.world import open_world

PAIRS = st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=5)


def plain_entropy(pairs: list[tuple[float, float]], smoothing: float) -> float:
    total = 0.0
    for pair in pairs:
        for label, logit in enumerate(pair):
            fake = smoothing / 2 + label * (1 - smoothing)
            total += fake * math.log1p(math.exp(-logit)) + (1 - fake) * math.log1p(math.exp(logit))
    return total


def plain_ranking(pairs: list[tuple[float, float]], margin: float) -> float:
    return sum(max(0.0, margin - (fake - real)) for real, fake in pairs)


@given(pairs=PAIRS, smoothing=st.floats(0, 0.9), weight=st.floats(0, 3), margin=st.floats(0, 5))
def test_each_loss_is_the_sum_that_it_is_defined_as(
    pairs: list[tuple[float, float]], smoothing: float, weight: float, margin: float
) -> None:
    logit_BP = torch.tensor(pairs, dtype=torch.float64)
    entropy, hinge = plain_entropy(pairs, smoothing), plain_ranking(pairs, margin)
    assert float(cross_entropy(logit_BP, smoothing)) == pytest.approx(entropy)
    assert float(ranking(logit_BP, margin)) == pytest.approx(hinge)
    config = LossConfig(smoothing=smoothing, ranking=weight, margin=margin if weight else 1.0)
    assert float(pair_loss(logit_BP, config)) == pytest.approx(entropy + 2 * weight * hinge)


def test_a_step_descends_the_loss_that_was_asked_for() -> None:
    loss, batch = LossConfig(smoothing=0.2, ranking=0.7, margin=2.0), random_batch(4, seed=1)
    model = plain_model()
    logit_BP = model(normalize(batch.images.flatten(0, 1))).view(-1, 2)
    expected = pair_loss(logit_BP, loss)
    (expected / (2 * CONFIG.order.global_batch)).backward()
    with open_world("cpu") as world:
        one = Trainee(plain_model(), replace(CONFIG, loss=loss), world)
        one.optimizer = torch.optim.SGD(one.module.parameters(), lr=1.0, fused=True)
        found = one.step(batch, 0)
    assert found.loss_sum == pytest.approx(expected.item(), rel=1e-6)
    for before, after in zip(model.parameters(), one.module.parameters(), strict=True):
        assert before.grad is not None
        torch.testing.assert_close(after, before - before.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": 1.0}, "loss.smoothing=1.0, expected 0 <= smoothing < 1"),
        ({"ranking": -1.0}, "loss.ranking=-1.0, expected 0 or more"),
        ({"ranking": 1.0, "margin": math.nan}, "loss.margin=nan, expected 0 or more"),
        ({"margin": 2.0}, "loss.margin"),
    ],
)
def test_losses_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LossConfig(**options)
