"""Two gloo ranks and what they do, in a module of its own that forked processes import."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from forked import fork_server, meeting
from patience import PATIENCE_S
from torch import multiprocessing, nn

from pack.dataset.pairs import DamagedPair
from recon.base.errors import UnreachableError, UserError
from train.loader.transfer import Batch
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import StepResult, Trainee
from train.model.build import build_model
from train.model.config import ModelConfig
from train.world.launch import Launch
from train.world.world import World, open_world

CONFIG = TrainConfig(out="unused", data=DataConfig(train="unused"), model=ModelConfig(backbone="highpass"))

Weights = dict[str, torch.Tensor]
Job = Callable[[World], dict[str, Any]]


def random_batch(pairs: int, seed: int, valid: int | None = None) -> Batch:
    """A batch of `pairs` slots, the first `valid` of them (by default all) with images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (pairs, 2, 3, 16, 16), dtype=torch.uint8, generator=generator)
    mask = torch.arange(pairs) < (pairs if valid is None else valid)
    images[~mask] = 0
    return batch_of(images, mask)


def batch_of(images: torch.Tensor, mask: torch.Tensor, **more: Any) -> Batch:
    keys = [str(row) for row in range(int(mask.sum()))]
    return Batch(images=images, valid=images[mask], mask=mask, keys=keys, **more)


def rank_share(batch: Batch, rank: int) -> Batch:
    """A rank's rows, of two ranks, as the loader deals them."""
    return batch_of(batch.images[rank::2], batch.mask[rank::2])


def plain_model() -> nn.Module:
    """No BatchNorm and no dropout: its gradient is a mean over rows."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 1), nn.Flatten(0)
    )


class NanOnBlack(nn.Module):
    """A model whose logits are NaN where an image is black all over, behind a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.norm = nn.BatchNorm2d(3)
        self.plain = plain_model()

    def forward(self, x_N3HW: torch.Tensor) -> torch.Tensor:
        black_N = (x_N3HW.amax((1, 2, 3)) < -1.5).float()
        spoilt = x_N3HW / (1 - black_N).view(-1, 1, 1, 1)  # -inf, as an overflow would leave it
        logit_N: torch.Tensor = self.plain(self.norm(spoilt))
        return logit_N


def black(batch: Batch) -> Batch:
    return batch_of(torch.zeros_like(batch.images), batch.mask)


def trainee(model: nn.Module, world: World, *, plain_descent: bool = False) -> Trainee:
    """With plain descent at rate 1, a step takes the gradient itself off the weights."""
    made = Trainee(model, CONFIG, world)
    if plain_descent:
        made.optimizer = torch.optim.SGD(made.module.parameters(), lr=1.0, fused=True)
    return made


def gradients(world: World, batch: Batch) -> tuple[Weights, StepResult]:
    """The averaged gradients of one step of `plain_model`."""
    one = trainee(plain_model(), world, plain_descent=True)
    before = {name: weight.detach().clone() for name, weight in one.module.named_parameters()}
    result = one.step(batch, 0)
    return {name: before[name] - weight.detach() for name, weight in one.module.named_parameters()}, result


def snapshot(one: Trainee) -> Weights:
    return {name: value.clone() for name, value in one.module.state_dict().items()}


def train_briefly(world: World) -> Trainee:
    """Three steps of a model with BatchNorm and dropout, each rank on its own images."""
    torch.manual_seed(3)
    one = trainee(build_model(CONFIG.model), world)
    for step in range(3):
        one.step(random_batch(4, seed=10 * step + world.rank), step)
    return one


def two_rank_job(world: World) -> dict[str, Any]:
    """Everything that the tests ask of two ranks; one start of two processes serves them all."""
    found: dict[str, Any] = {}
    share = rank_share(random_batch(7, seed=1, valid=5), world.rank)
    found["union"] = gradients(world, share)
    alone = random_batch(3, seed=2, valid=3 if world.rank == 0 else 0)
    found["one rank only"] = gradients(world, alone)

    again, normed = train_briefly(world), train_briefly(world)
    found["trained"], found["again"] = snapshot(normed), snapshot(again)
    tail = [random_batch(4, seed=50 + world.rank), random_batch(4, seed=60, valid=2 - 2 * world.rank)]
    found["summary"] = normed.validate(tail)
    found["validated"] = snapshot(normed)

    spoilt = trainee(NanOnBlack(), world)
    good = random_batch(4, seed=30 + world.rank)
    found["spoilt"] = [spoilt.step(good, 0)]
    before = snapshot(spoilt)
    found["spoilt"] += [spoilt.step(black(good) if world.rank == 1 else good, 1)]
    found["before and after"] = before, snapshot(spoilt)
    found["spoilt"] += [spoilt.step(good, 2)]

    pairs = [DamagedPair(key="k", url="u", cause="c")] * (2 * world.rank)
    hurt = batch_of(good.images, good.mask, damaged=pairs)
    found["told"] = [spoilt.step(hurt, 3), spoilt.step(good, 4, stop=world.rank == 1)]
    found["any"] = world.any(world.rank == 1), world.any(False)
    found["from first"] = bytes(world.from_first(lambda: b"bytes of rank %d" % world.rank))
    with suppress(UserError):
        world.from_first(_refuse)
    try:
        world.from_first(_miss)
    except UserError as error:
        found["missed"] = type(error), str(error)
    found["objects"] = world.gather_objects({"rank": world.rank})
    return found


def _refuse() -> bytes:
    raise UserError("no")


def _miss() -> bytes:
    raise UnreachableError("the bucket is away")


def run_two_ranks(job: Job, folder: Path) -> list[dict[str, Any]]:
    """What `job` returned on rank 0 and on rank 1."""
    with meeting() as place:
        _run(job, place, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _run(job: Job, place: dict[str, str], folder: Path) -> None:
    fork_server()
    ranks = multiprocessing.start_processes(
        _rank, (job, place, folder), nprocs=2, join=False, start_method="forkserver"
    )
    deadline = time.monotonic() + PATIENCE_S
    while not ranks.join(timeout=5):
        if time.monotonic() > deadline:
            for process in ranks.processes:
                process.kill()
            raise TimeoutError(f"the ranks hang for {PATIENCE_S} s")


def _rank(rank: int, job: Job, place: dict[str, str], folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(place)
    launch = Launch(rank=rank, size=2, local_rank=rank, local_size=2, joins=True)
    with open_world("cpu", launch) as world:
        torch.save(job(world), folder / f"{rank}.pt")
