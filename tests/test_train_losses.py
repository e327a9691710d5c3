"""The losses of pairs beside plain loops over numbers."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train_ranks import CONFIG, plain_model, random_batch

from recon.base.errors import UserError
from train.draws.config import AugmentConfig
from train.loop.trainee import Trainee
from train.model.config import ModelConfig
from train.model.normalize import normalize
from train.optim.config import LossConfig, OptimConfig
from train.optim.contrastive import margin_contrastive, supervised_contrastive
from train.optim.losses import consistency, cross_entropy, pair_loss, ranking
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
    logit_BVP = torch.tensor(pairs, dtype=torch.float64)[:, None]
    entropy, hinge = plain_entropy(pairs, smoothing), plain_ranking(pairs, margin)
    assert float(cross_entropy(logit_BVP, smoothing)) == pytest.approx(entropy)
    assert float(ranking(logit_BVP, margin)) == pytest.approx(hinge)
    config = LossConfig(smoothing=smoothing, ranking=weight, margin=margin if weight else 1.0)
    assert float(pair_loss(logit_BVP, config)) == pytest.approx(entropy + 2 * weight * hinge)


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def plain_divergence(views: list[float]) -> float:
    """Jensen-Shannon divergence of one image's probabilities."""
    mean = sum(map(probability, views)) / len(views)
    total = 0.0
    for p in map(probability, views):
        total += p * math.log(p / mean) + (1 - p) * math.log((1 - p) / (1 - mean))
    return total / len(views)


@given(data=st.data(), pairs=st.integers(1, 3), views=st.integers(1, 4))
def test_consistency_is_the_divergence_of_each_images_views(
    data: st.DataObject, pairs: int, views: int
) -> None:
    numbers = st.lists(st.floats(-15, 15), min_size=views, max_size=views)
    images = data.draw(st.lists(numbers, min_size=2 * pairs, max_size=2 * pairs))  # (B P, V)
    logit_BVP = torch.tensor(images, dtype=torch.float64).view(pairs, 2, views).transpose(1, 2)
    expected = sum(views * plain_divergence(one) for one in images)
    assert float(consistency(logit_BVP)) == pytest.approx(expected, abs=1e-12)
    assert float(consistency(logit_BVP)) <= 2 * pairs * views * math.log(views) + 1e-12


def test_consistency_of_extreme_logits_is_finite_and_so_is_its_gradient() -> None:
    logit_BVP = torch.tensor([[[-200.0, 90.0], [200.0, 90.0]]], requires_grad=True)
    found = consistency(logit_BVP)
    found.backward()
    assert float(found.detach()) == pytest.approx(2 * math.log(2))  # one image is as sure of both
    assert torch.isfinite(logit_BVP.grad).all()  # type: ignore[arg-type]


def features(images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) of some norms and the classes; the first two are equal."""
    generator = torch.Generator().manual_seed(seed)
    feature_ND = torch.randn(images, 5, generator=generator, dtype=torch.float64) + 0.5
    feature_ND[1] = feature_ND[0]
    return feature_ND, torch.randint(0, 2, (images,), generator=generator)


def unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector]


def plain_contrastive(rows: list[list[float]], labels: list[int], temperature: float) -> float:
    def likeness(i: int, j: int) -> float:
        return math.exp(sum(x * y for x, y in zip(unit(rows[i]), unit(rows[j]), strict=True)) / temperature)

    total = 0.0
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        bottom = sum(likeness(i, j) for j in others)
        total += sum(-math.log(likeness(i, j) / bottom) for j in positives) / max(1, len(positives))
    return total


def plain_margin(rows: list[list[float]], labels: list[int], margin: float) -> float:
    together, apart = [], []
    for i in range(len(rows)):
        for j in range(i):
            distance = math.dist(unit(rows[i]), unit(rows[j]))
            if labels[i] == labels[j]:
                together.append(distance)
            else:
                apart.append(max(0.0, margin - distance))
    return sum(sum(found) / max(1, len([one for one in found if one > 0])) for found in (together, apart))


@pytest.mark.parametrize("images", [2, 3, 6, 30])
@pytest.mark.parametrize("seed", range(5))
def test_the_losses_on_features_are_what_they_are_defined_as(images: int, seed: int) -> None:
    feature_ND, label_N = features(images, seed)
    rows, labels = feature_ND.tolist(), label_N.tolist()
    for temperature in (0.07, 0.5):
        found = supervised_contrastive(feature_ND, label_N, temperature)
        assert float(found) == pytest.approx(plain_contrastive(rows, labels, temperature), abs=1e-12)
    for margin in (1.0, 0.3, 2.0):
        found = margin_contrastive(feature_ND, label_N, margin)
        assert float(found) == pytest.approx(plain_margin(rows, labels, margin), abs=1e-12)


def test_the_margin_loss_counts_the_pairs_that_are_not_yet_right() -> None:
    east, north, south = [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]
    near = unit([1.0, 0.01])
    feature_ND = torch.tensor([east, east, north, near, south], dtype=torch.float64)
    label_N = torch.tensor([0, 0, 0, 1, 1])
    # Of one class: the two in the east are together; two are sqrt(2) apart, and two of the other class.
    same = (2 * math.sqrt(2) + math.dist(near, south)) / 3
    # Of two classes: one is near the two in the east; it and the rest are farther away than 1.
    assert float(margin_contrastive(feature_ND, label_N, 1.0)) == pytest.approx(
        same + 1 - math.dist(near, east)
    )


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [0, 0, 1, 1]])
def test_equal_features_and_a_class_of_one_have_finite_gradients(labels: list[int]) -> None:
    for loss in (supervised_contrastive, margin_contrastive):
        feature_ND = torch.ones(len(labels), 4, requires_grad=True)
        found = loss(feature_ND, torch.tensor(labels), 0.5)
        found.backward()
        assert torch.isfinite(found)
        assert torch.isfinite(feature_ND.grad).all()  # type: ignore[arg-type]
    one = supervised_contrastive(torch.randn(2, 4), torch.tensor([0, 1]), 0.5)
    assert float(one) == 0.0  # neither has another of its class


def test_a_batch_weighs_its_terms_as_means_over_its_images() -> None:
    generator = torch.Generator().manual_seed(7)
    logit_BVP = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64)
    feature_BVPD = torch.randn(4, 3, 2, 5, generator=generator, dtype=torch.float64)
    feature_ND, label_N = feature_BVPD.reshape(24, 5), torch.tensor([0, 1] * 12)
    config = LossConfig(
        bce=0.5, contrastive=0.3, temperature=0.2, drct=0.7, drct_margin=0.9, consistency=12.0, ranking=0.4
    )
    expected = (
        0.5 * cross_entropy(logit_BVP) / 24
        + 0.3 * supervised_contrastive(feature_ND, label_N, 0.2) / 24
        + 0.7 * margin_contrastive(feature_ND, label_N, 0.9)
        + 12.0 * consistency(logit_BVP) / 24
        + 0.4 * ranking(logit_BVP, 1.0) / 12
    )
    assert float(pair_loss(logit_BVP, config, feature_BVPD)) == pytest.approx(24 * float(expected))
    # Of the terms on logits, pieces of pairs add up.
    config = LossConfig(consistency=2.0, ranking=0.4)
    pieces = sum(pair_loss(piece, config) for piece in logit_BVP.tensor_split(3))
    assert float(pieces) == pytest.approx(float(pair_loss(logit_BVP, config)))


def test_a_step_descends_the_loss_that_was_asked_for() -> None:
    loss, batch = LossConfig(smoothing=0.2, ranking=0.7, margin=2.0), random_batch(4, seed=1)
    model = plain_model()
    logit_BVP = model(normalize(batch.images.flatten(0, 1))).view(-1, 1, 2)
    expected = pair_loss(logit_BVP, loss)
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
        ({"margin": 2.0}, "loss.margin=2.0 would be ignored: loss.ranking is 0; leave it out"),
        ({"temperature": 2.0}, "loss.temperature=2.0 would be ignored: loss.contrastive is 0; leave it out"),
        ({"drct_margin": 0.5}, "loss.drct_margin=0.5 would be ignored: loss.drct is 0; leave it out"),
        (
            {"bce": 0.0, "ranking": 1.0, "smoothing": 0.1},
            "loss.smoothing=0.1 would be ignored: loss.bce is 0",
        ),
        ({"bce": 0.0, "contrastive": 1.0}, "loss.bce and loss.ranking are 0, so nothing would tell"),
        ({"contrastive": 1.0, "temperature": 0.0}, "loss.temperature=0.0, expected more than 0"),
        ({"drct": math.nan}, "loss.drct=nan, expected 0 or more"),
        ({"consistency": -1.0}, "loss.consistency=-1.0, expected 0 or more"),
    ],
)
def test_losses_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LossConfig(**options)


def test_losses_that_other_options_leave_nothing_to_compare_are_refused() -> None:
    with pytest.raises(UserError, match=r"loss.consistency=1.0 .* augment.views of 2 or more, found 1"):
        replace(CONFIG, loss=LossConfig(consistency=1.0))
    replace(CONFIG, loss=LossConfig(consistency=1.0), augment=AugmentConfig(views=2))
    for options in ({"contrastive": 0.5}, {"drct": 0.5}):
        config = replace(CONFIG, loss=LossConfig(**options))  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"=0.5 compares all images of a batch, and optim.accumulate=2"):
            replace(config, optim=OptimConfig(accumulate=2))
        with pytest.raises(
            UserError, match=r"=0.5 would be ignored: it trains features, and model.train=head"
        ):
            replace(config, model=ModelConfig(train="head"))
