"""Estimates BatchNorm's running mean and variance anew, before a validation and what is saved after it.

In training they are moving averages: the last steps of an epoch count most, and the very last one may have
only a few pairs. Validation then jumps from epoch to epoch although the weights hardly change. Here they are
averages over the same full training batches each time, so they follow from the weights alone: a run that was
killed and resumed gets the same ones.

Source: Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021 (precise BatchNorm).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from train.loop.build import training_loader
from train.loop.config import TrainConfig
from train.model.trained import is_still
from train.world.world import World


def normed(model: nn.Module) -> list[_BatchNorm]:
    """The layers of a model that keep running statistics, but for those whose weights are not trained."""
    found = (layer for layer in model.modules() if isinstance(layer, _BatchNorm))
    return [layer for layer in found if layer.track_running_stats and not is_still(layer)]


class KeptStatistics:
    """The running statistics of a model, of which a step can be taken back on the device.

    Args:
        model: whose layers of `normed` are meant.
    """

    def __init__(self, model: nn.Module) -> None:
        names = ("running_mean", "running_var", "num_batches_tracked")
        found = [layer.get_buffer(name) for layer in normed(model) for name in names]
        kinds = {buffer.dtype for buffer in found}
        self._groups = [[one for one in found if one.dtype is kind] for kind in sorted(kinds, key=str)]
        self._kept: list[torch.Tensor] | None = None

    @torch.no_grad()
    def keep(self) -> None:
        """Called before a step's forward pass; copies only if something else than a step changed them."""
        if self._kept is None:
            self._kept = [_flat(group) for group in self._groups]

    def forget(self) -> None:
        """Called after something else than a step changed the statistics."""
        self._kept = None

    @torch.no_grad()
    def restore_unless(self, finite: torch.Tensor) -> None:
        """Takes back what happened since `keep`, unless `finite`: () bool on the device. Keeps the result."""
        assert self._kept is not None, "keep comes first"
        flat = [
            torch.where(finite, _flat(group), kept)
            for group, kept in zip(self._groups, self._kept, strict=True)
        ]
        for group, values in zip(self._groups, flat, strict=True):
            parts = torch.split(values, [one.numel() for one in group])
            torch._foreach_copy_(group, [part.view_as(one) for part, one in zip(parts, group, strict=True)])
        self._kept = flat


def _flat(group: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([one.flatten() for one in group])


def first_pairs(config: TrainConfig, world: World) -> list[torch.Tensor]:
    """This rank's valid pairs in each of the first `optim.bn_batches` full batches of epoch 0.

    They are augmented as in training, with a row for each view: (B, P, C, H, W) uint8 on the CPU, B of at
    least 1. An epoch with fewer full batches gives all of them, and one without any its only batch.
    """
    with closing(training_loader(config, world)) as loader:
        count = min(config.optim.bn_batches, max(1, loader.pairs // loader.global_batch))
        found = [batch.valid.cpu() for batch in islice(loader, count)]
    return [pairs for pairs in found if len(pairs)]


def estimate(
    model: nn.Module,
    score: Callable[[torch.Tensor, int], object],
    parts: Sequence[torch.Tensor],
    world: World,
) -> None:
    """Sets the running statistics to their averages over some batches of all ranks.

    Args:
        model: whose statistics are set; in eval mode afterwards.
        score: calls the model with one of the parts, of which it gets the number, too.
        parts: batches of this rank, at least one row each.
        world: all ranks call this together, and have equal statistics afterwards. If no rank has a batch,
            nothing changes.
    """
    total = int(world.add_up(torch.tensor(len(parts))))
    layers = normed(model)
    if not total or not layers:
        return
    model.eval()  # no dropout; BatchNorm alone is in training mode
    with torch.no_grad(), _averaging(layers):
        for number, part in enumerate(parts):
            score(part, number)
        for layer in layers:
            for values in (layer.running_mean, layer.running_var):
                assert values is not None, "track_running_stats"
                values.copy_(world.add_up(values.double() * len(parts)) / total)


@contextmanager
def _averaging(layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """The statistics begin anew, and every batch has the same weight in them."""
    before = [(layer.momentum, _count(layer).clone()) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    yield
    for layer, (momentum, count) in zip(layers, before, strict=True):
        layer.momentum = momentum
        _count(layer).copy_(count)
        layer.eval()


def _count(layer: _BatchNorm) -> torch.Tensor:
    assert layer.num_batches_tracked is not None, "track_running_stats"
    return layer.num_batches_tracked
