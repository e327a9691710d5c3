"""A process group that ends with its run: nothing holds it until the interpreter ends."""

import gc
import weakref
from contextlib import closing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from train_data import make_dataset
from train_ranks import CONFIG, plain_model, random_batch
from train_runs import small_config

from recon.base.errors import UserError
from train.loop.run import train
from train.loop.trainee import Trainee
from train.world.stop import Preempted
from train.world.world import World, open_world

ENDS = [None, UserError("a mistake"), Preempted("asked to end"), RuntimeError("a fault"), KeyboardInterrupt()]


class Failing(nn.Module):
    """A model that raises in the midst of DDP's forward, whose frames hold DDP."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error, self.inner = error, plain_model()

    def forward(self, x_N3HW: torch.Tensor) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        logit_N: torch.Tensor = self.inner(x_N3HW)
        return logit_N


def gloo_threads() -> int:
    """The threads of this process that serve a gloo group."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_nothing_holds_the_group_once_its_world_has_ended(end: BaseException | None) -> None:
    gc.collect()
    before, held, caught = gloo_threads(), [], None
    try:
        with open_world("cpu") as world, closing(Trainee(Failing(end), CONFIG, world)) as one:
            held += [weakref.ref(one.ddp), weakref.ref(dist.group.WORLD)]
            assert gloo_threads() > before
            one.step(random_batch(3, seed=0), 0)
    except BaseException as error:  # with its frames, as the caller of a run has it
        caught = error
    assert caught is end
    assert [reference() for reference in held] == [None, None]
    assert not dist.is_initialized()
    assert gloo_threads() == before


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_a_run_lets_go_of_the_group_however_it_ends(
    end: BaseException | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_dataset(tmp_path / "data", pairs=8, shard_pairs=8, size=(40, 40))
    held, wrap, step = [], World.wrap, Trainee.step

    def wrapped(world: World, model: nn.Module) -> nn.Module:
        made = wrap(world, model)
        held.append(weakref.ref(made))
        return made

    def ended(*arguments: object, **options: object) -> object:
        if end is not None:
            raise end
        return step(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(World, "wrap", wrapped)
    monkeypatch.setattr(Trainee, "step", ended)
    caught = None
    try:
        train(small_config({"train": url}, tmp_path / "out", epochs=1, resume="never"))
    except BaseException as error:
        caught = error
    assert caught is end
    assert [reference() for reference in held] == [None]
    assert not dist.is_initialized()
