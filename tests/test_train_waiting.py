"""A step only queues work: it never waits for a result of the device, and leaves itself out there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train_ranks import CONFIG, NanOnBlack, black, random_batch

from recon.base.errors import UserError
from train.loader.transfer import Batch
from train.loop.trainee import Trainee
from train.model.build import build_model
from train.optim.config import LossConfig, OptimConfig
from train.optim.optimizer import build_optimizer, step_where
from train.world.later import Later
from train.world.world import World, open_world

aten: Any = torch.ops.aten
READS = {aten.nonzero.default, aten.masked_select.default}  # their results have a size that depends on values
METHODS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
FULL = {  # all that a step can do beside the gradient
    "adam": OptimConfig(clip=1.0, ema=0.9, accumulate=2),
    "adamw": OptimConfig(optimizer="adamw", weight_decay=0.1),
    "sgd": OptimConfig(optimizer="sgd"),
}


class _Reads(TorchDispatchMode):
    """Counts the operations whose result the host must know before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func is aten.index.Tensor and any(
            one is not None and one.dtype is torch.bool for one in args[1]
        )
        if func in READS or by_mask:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Context manager: lists what reads a tensor meanwhile."""
    with _Reads() as mode, monkeypatch.context() as patch:
        for name in METHODS:
            before = getattr(torch.Tensor, name)

            def counted(one: torch.Tensor, *args: Any, name: str = name, before: Any = before) -> Any:
                mode.found.append(name)
                return before(one, *args)

            patch.setattr(torch.Tensor, name, counted)
        yield mode.found


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world("cpu") as opened:
        yield opened


def made(world: World, optim: OptimConfig) -> Trainee:
    loss = LossConfig(ranking=0.5, smoothing=0.1)
    return Trainee(build_model(CONFIG.model), replace(CONFIG, optim=optim, loss=loss), world)


def as_floats(batch: Batch) -> Batch:
    """Levels of uint8 are normalised by a table of numpy's on a CPU, and only there."""
    return replace(batch, images=batch.images / 255.0, valid=batch.valid / 255.0)


@pytest.mark.parametrize("name", FULL)
def test_a_step_reads_nothing_from_the_device(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(world, FULL[name])
    batches = [as_floats(random_batch(4, seed=seed, valid=valid)) for seed, valid in enumerate((4, 3, 0))]
    for number, batch in enumerate(batches):  # a step on the way: the first ones make state and tables
        one.step(batch, number)
    with reads(monkeypatch) as found:
        results = [one.step(batch, number) for number, batch in enumerate(batches, 3)]
        assert found == []
        assert [result.applied for result in results] == [True, True, False]
        assert found, "the test sees a read"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", FULL)
def test_a_step_on_a_gpu_does_not_wait_for_it(name: str) -> None:
    with open_world("cuda") as world:
        one = made(world, FULL[name])
        batches = [random_batch(4, seed=1), random_batch(4, seed=2, valid=3)]
        batches = [
            replace(
                batch,
                images=batch.images.to(world.device),
                valid=batch.valid.to(world.device),
                mask=batch.mask.to(world.device),
            )
            for batch in batches
        ]
        for number, batch in enumerate(batches):
            one.step(batch, number)
        torch.cuda.set_sync_debug_mode("error")
        try:
            results = [one.step(batch, number) for number, batch in enumerate(batches, 2)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(result.applied for result in results)


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_step_that_is_left_out_is_as_if_it_had_never_been(world: World, name: str, bad: int) -> None:
    def trained(numbers: list[int]) -> list[Any]:
        one = Trainee(NanOnBlack(), replace(CONFIG, optim=FULL[name]), world)
        for number in numbers:
            batch = random_batch(4, seed=number)
            assert one.step(black(batch) if number == bad else batch, number).applied is (number != bad)
        return [one.weights(), one.optimizer.state_dict()["state"]]

    found = trained([0, 1, 2, 3, 4])
    assert_equal(found, trained([number for number in range(5) if number != bad]))


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        for mine, its in zip(one, other, strict=True):
            assert_equal(mine, its)
    else:
        assert one == other


@pytest.mark.parametrize("name", FULL)
def test_the_fused_step_is_torchs_plain_one(name: str) -> None:
    def moved(fused: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Linear(7, 5).double()
        optimizer = build_optimizer(model, FULL[name])
        if not fused:
            kind = type(optimizer)
            groups = [{**group, "fused": False, "foreach": False} for group in optimizer.param_groups]
            optimizer = kind(groups)
        for _ in range(5):
            for weight in model.parameters():
                weight.grad = torch.randn_like(weight)
            if fused:
                step_where(optimizer, torch.tensor(True))
            else:
                optimizer.step()
        return [weight.detach() for weight in model.parameters()]

    torch.testing.assert_close(moved(True), moved(False), rtol=1e-13, atol=1e-13)


def test_ranks_at_different_steps_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(world, OptimConfig())

    def another_is_ahead(mine: list[int]) -> Any:  # the sum that two ranks at steps 3 and 4 would have
        return lambda: [*mine[:-1], 7]

    monkeypatch.setattr(World, "totals", lambda _, mine: another_is_ahead(mine))
    with pytest.raises(UserError, match="rank 0 is at step 3, and not every other rank is"):
        one.step(random_batch(3, seed=0), 3)


def test_a_number_is_read_as_it_was_when_it_was_sent() -> None:
    value = torch.tensor(3.0)
    later = Later(value)
    value.fill_(9)
    assert later.read() == 3.0
