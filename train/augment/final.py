"""Kornia's own ops on the final crops of pairs, the same for real and fake; imports Kornia only if needed.

Shapes: B pairs, P = (real, fake), C = RGB, H rows, W columns.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from recon.base.device import forked_generators, seed_generators
from recon.base.errors import UserError, message_of
from train.draws.config import AugmentConfig
from train.order.counter import stream_key


def final_ops(config: AugmentConfig, seed: int, rank: int) -> Callable[[Tensor, int], Tensor]:
    """The function to apply between the final crop and the normalisation.

    Returns:
        A function of the crops (B, P, C, H, W) uint8 and the number of the step. It applies the ops of
        `config.kornia`, see `KorniaOps`; without such ops it returns the crops unchanged.

    Raises:
        UserError: an op is unknown, or refuses its arguments.
    """
    if not config.kornia:
        return lambda pairs_BPCHW, step: pairs_BPCHW  # noqa: ARG005
    ops = KorniaOps(config.kornia, seed)
    return lambda pairs_BPCHW, step: ops(pairs_BPCHW.float() / 255.0, step, rank)


class KorniaOps:
    """Ops of `kornia.augmentation` in a container, with one set of parameters for each pair.

    Real and fake images go through the container one after the other with the same recorded parameters. So
    equal pixels stay equal bit for bit, and the geometry stays aligned.

    Args:
        ops: in order, the class of each op and its arguments: ``{"name": "RandomErasing", "p": 0.1, ...}``.
        seed: of the run.
    """

    def __init__(self, ops: Sequence[Mapping[str, Any]], seed: int) -> None:
        from kornia.augmentation import AugmentationSequential

        self.seed = seed
        self.container = AugmentationSequential(*(_op(place, op) for place, op in enumerate(ops)))
        self.container.disable_features = True  # only tensors come: no conversion of inputs

    @torch.no_grad()
    def __call__(self, x_BPCHW: Tensor, step: int, rank: int) -> Tensor:
        """Applies the ops; the result depends on (seed, step, rank) and not on torch's generators.

        Args:
            x_BPCHW: float32 in 0..1.
            step: of the run.
            rank: of this process. Each rank draws its own parameters: results depend on the world size.

        Returns:
            (B, P, C, H', W') in 0..1; H' and W' differ from H and W if an op crops or resizes.

        Raises:
            UserError: Kornia can't apply an op to crops of this size.
        """
        key = stream_key(self.seed, step, f"kornia/{rank}")
        real_BCHW, fake_BCHW = x_BPCHW.unbind(1)
        try:
            with _seeded(key, x_BPCHW.device):
                params = self.container.forward_parameters(real_BCHW.shape)
            halves = [self._apply(half_BCHW, params, key) for half_BCHW in (real_BCHW, fake_BCHW)]
        except torch.OutOfMemoryError:  # a RuntimeError, but not the fault of an op's arguments
            raise
        except Exception as error:  # Kornia finds some wrong arguments only when it applies the op
            size = f"{x_BPCHW.shape[-1]}x{x_BPCHW.shape[-2]}"
            raise UserError(f"augment.kornia fails on crops of {size}: {message_of(error)}") from error
        return torch.stack(halves, dim=1).clamp_(0.0, 1.0)

    def _apply(self, half_BCHW: Tensor, params: list[Any], key: int) -> Tensor:
        """Applies the ops to the real or the fake images."""
        # Some ops draw again while they are applied; with this seed they draw the same for both halves.
        with _seeded(key ^ 1, half_BCHW.device):
            out: Tensor = self.container(half_BCHW.clone(), params=params)
        return out


@contextmanager
def _seeded(key: int, device: torch.device) -> Iterator[None]:
    """Context manager: seeds the generators of the CPU and the device; restores their states at the end."""
    with forked_generators(device):
        seed_generators(key, device)
        yield


def _op(place: int, op: Mapping[str, Any]) -> Any:
    """Builds an op of the list.

    Raises:
        UserError: there is no such 2-D op in `kornia.augmentation`, or it refuses its arguments.
    """
    from kornia import augmentation

    choices = [
        name
        for name, found in vars(augmentation).items()
        if isinstance(found, type)
        and issubclass(found, augmentation.AugmentationBase2D)
        and "Base" not in name
    ]
    where = f"augment.kornia[{place}]"
    if op["name"] not in choices:
        close = difflib.get_close_matches(op["name"], choices, 5, cutoff=0.4) or sorted(choices)
        raise UserError(f"{where}: Kornia has no op {op['name']!r}, close are {', '.join(close)}")
    args = {name: _tuples(value) for name, value in op.items() if name != "name"}
    # Checked here, because Kornia's errors do not say which arguments an op takes.
    known = list(inspect.signature(getattr(augmentation, op["name"])).parameters)
    if unknown := [name for name in args if name not in known]:
        raise UserError(
            f"{where}: {op['name']} takes no {', '.join(unknown)}, expected of {', '.join(known)}"
        )
    for name in ("p", "p_batch"):
        if name in args and not (isinstance(args[name], int | float) and 0 <= args[name] <= 1):
            raise UserError(f"{where}: {name}={args[name]}, expected a probability in [0, 1]")
    try:
        return getattr(augmentation, op["name"])(**args)
    except Exception as error:  # Kornia raises many types of errors for wrong arguments
        raise UserError(f"{where}: {op['name']}: {message_of(error)}") from error


def _tuples(value: Any) -> Any:
    """Converts the lists of YAML to tuples, which Kornia expects."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
