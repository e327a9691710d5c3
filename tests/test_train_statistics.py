"""BatchNorm's statistics that are estimated anew, beside torch's own way to do it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from train_data import make_dataset
from train_ranks import run_two_ranks

from train.draws.config import AugmentConfig
from train.loop.config import DataConfig, TrainConfig
from train.loop.statistics import estimate, first_pairs, normed
from train.optim.config import OptimConfig
from train.order.config import OrderConfig
from train.world.world import World, open_world


def model() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 3),
        nn.BatchNorm2d(2, track_running_stats=False), nn.BatchNorm2d(2, momentum=0.3),
    )  # fmt: skip
    return made.train()


def parts(rank: int, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return [torch.rand(3 + number, 3, 9, 9, generator=generator) for number in range(count)]


def expected(inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What torch's own function gives, without dropout, which it leaves on."""
    plain = model()
    plain[2] = nn.Identity()  # type: ignore[operator]
    update_bn(inputs, plain)
    return plain.state_dict()


def assert_close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name in wanted:
        if "num_batches" not in name:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def two_rank_job(world: World) -> dict[str, Any]:
    """Estimates on two ranks, of which the second has fewer batches, and then none."""
    found: dict[str, Any] = {}
    for case, counts in {"both": (3, 2), "one": (3, 0), "none": (0, 0)}.items():
        one = model()
        estimate(one, lambda x, _, one=one: one(x), parts(world.rank, counts[world.rank]), world)  # type: ignore[misc]
        found[case] = one.state_dict()
    return found


def test_statistics_are_those_of_torch_whatever_they_were_before() -> None:
    one = model()
    for _ in range(3):
        one(torch.rand(5, 3, 9, 9) * 100)
    one[1].running_mean[0] = torch.nan  # type: ignore[index,union-attr,operator]
    before = copy.deepcopy(one.state_dict())
    with open_world("cpu") as world:
        estimate(one, lambda x, _: one(x), parts(0, 4), world)
    found = one.state_dict()
    assert_close(found, {**expected(parts(0, 4))})
    for name in found:
        if "running" not in name:  # weights, and the number of steps
            assert torch.equal(found[name], before[name]), name
    assert [layer.momentum for layer in normed(one)] == [0.1, 0.3]
    assert not any(layer.training for layer in one.modules())


def test_two_ranks_end_with_the_averages_over_the_batches_of_both(tmp_path: Path) -> None:
    first, second = run_two_ranks(two_rank_job, tmp_path)
    assert_close(first["both"], expected([*parts(0, 3), *parts(1, 2)]))
    assert_close(first["one"], expected(parts(0, 3)))
    for case in first:
        assert all(torch.equal(first[case][name], second[case][name]) for name in first[case])
    assert all(torch.equal(first["none"][name], value) for name, value in model().state_dict().items())


@pytest.mark.parametrize(
    ("asked", "pairs", "views", "sizes"),
    [(2, 21, 1, [8, 8]), (9, 21, 1, [8, 8]), (9, 5, 1, [5]), (1, 8, 3, [24])],
)
def test_full_batches_alone_are_taken_and_the_same_each_time(
    tmp_path: Path, asked: int, pairs: int, views: int, sizes: list[int]
) -> None:
    config = TrainConfig(
        out=str(tmp_path / "run"),
        data=DataConfig(train=make_dataset(tmp_path / "data", pairs=pairs, shard_pairs=8), workers=0),
        order=OrderConfig(global_batch=8, lanes=8),
        augment=AugmentConfig(views=views),
        optim=OptimConfig(bn_batches=asked),
    )
    with open_world("cpu") as world:
        first, again = first_pairs(config, world), first_pairs(config, world)
    assert [len(one) for one in first] == sizes
    assert all(map(torch.equal, first, again))
