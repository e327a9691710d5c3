"""Each rank touches its own GPU only; told by a CUDA that is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from recon.base.device import forked_generators, seed_generators
from recon.base.errors import UserError
from train.loop.build import seeded_model
from train.loop.config import DataConfig, TrainConfig
from train.model.config import ModelConfig
from train.world.world import _device


class Touched:
    """The GPUs that were used, by number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
        self.used: list[int | None] = []
        self.seeded: list[int] = []
        self.forked: list[int] = []
        empty, fork = torch.empty, torch.random.fork_rng

        def allocate(*size: Any, device: torch.device | None = None, **rest: Any) -> torch.Tensor:
            if device is not None and device.type == "cuda":
                self.used.append(device.index)
            return empty(*size, **rest)

        def select(device: torch.device) -> None:
            self.used.append(device.index)

        @contextmanager
        def forked(devices: list[int]) -> Iterator[None]:
            self.forked += devices
            with fork(devices=[]):
                yield

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", select)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
        monkeypatch.setattr(torch.cuda, "default_generators", [self.generator(one) for one in range(gpus)])
        monkeypatch.setattr(torch.random, "fork_rng", forked)
        monkeypatch.setattr(torch, "empty", allocate)

    def generator(self, number: int) -> Any:
        class Generator:
            @staticmethod
            def manual_seed(seed: int) -> None:  # noqa: ARG004
                self.seeded.append(number)

        return Generator


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> Touched:
    return Touched(monkeypatch, gpus=4)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_rank_touches_its_own_gpu_alone(name: str, touched: Touched) -> None:
    assert str(_device(name, local_rank=3, local_size=4)) == "cuda:3"
    assert touched.used == [3, 3]


def test_a_rank_without_a_gpu_touches_none(touched: Touched) -> None:
    with pytest.raises(UserError, match="local rank 4 has no GPU, 4 found"):
        _device("auto", local_rank=4, local_size=5)
    assert touched.used == []


def test_a_gpu_by_its_number_is_for_one_process(touched: Touched) -> None:
    assert str(_device("cuda:2", local_rank=0, local_size=1)) == "cuda:2"
    assert touched.used == [2, 2]
    with pytest.raises(UserError, match=r"device=cuda:2 is one GPU for 2 ranks; pass device=cuda"):
        _device("cuda:2", local_rank=1, local_size=2)


@pytest.mark.parametrize(("name", "expected"), [("cpu", []), ("cuda:1", [1]), ("cuda", [2])])
def test_seeding_and_forking_generators_touch_one_device(
    name: str, expected: list[int], touched: Touched
) -> None:
    device = torch.device(name)
    with forked_generators(device):
        seed_generators(7, device)
    assert (touched.forked, touched.seeded) == (expected, expected)


def test_building_a_model_touches_the_generators_of_no_gpu(touched: Touched) -> None:
    config = TrainConfig(out="-", data=DataConfig(train="-"), model=ModelConfig(backbone="highpass"))
    before = torch.default_generator.get_state()
    first, again = (seeded_model(config, resumed=False).state_dict() for _ in range(2))
    assert (touched.forked, touched.seeded) == ([], [])
    assert torch.equal(torch.default_generator.get_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
