"""Stock Kornia ops on the final crops of pairs, real and fake alike; Kornia is imported where there are any.

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
from recon.base.errors import UserError
from train.draws.config import AugmentConfig
from train.order.counter import stream_key


def final_ops(config: AugmentConfig, seed: int, rank: int) -> Callable[[Tensor, int], Tensor]:
    """What comes between the final crops and the normalisation.

    Returns:
        A function of the crops (B, P, C, H, W) uint8 and the number of the step. Without ops in
        `config.kornia` it returns the crops as they are, else those of `KorniaOps`.

    Raises:
        UserError: an op is unknown, or refuses its arguments.
    """
    if not config.kornia:
        return lambda pairs_BPCHW, step: pairs_BPCHW  # noqa: ARG005
    ops = KorniaOps(config.kornia, seed)
    return lambda pairs_BPCHW, step: ops(pairs_BPCHW.float() / 255.0, step, rank)


class KorniaOps:
    """Ops of `kornia.augmentation` in a container, one set of parameters a pair.

    Real and fake go through it one after the other with the same recorded parameters, so equal pixels
    stay equal bit for bit and geometry stays aligned.

    Args:
        ops: ``{"name": "RandomErasing", "p": 0.1, ...}``: the class and its arguments, in order.
        seed: of the run.
    """

    def __init__(self, ops: Sequence[Mapping[str, Any]], seed: int) -> None:
        from kornia.augmentation import AugmentationSequential

        self.seed = seed
        self.container = AugmentationSequential(*(_op(place, op) for place, op in enumerate(ops)))
        self.container.disable_features = True

    @torch.no_grad()
    def __call__(self, x_BPCHW: Tensor, step: int, rank: int) -> Tensor:
        """Applies the ops; the same for the same (seed, step, rank), whatever torch's generators hold.

        Args:
            x_BPCHW: float32 in 0..1.
            step: of the run.
            rank: of this process: each draws its own, so the result depends on the world size.

        Returns:
            (B, P, C, H', W') in 0..1, of another size where an op crops or resizes.

        Raises:
            UserError: Kornia can't apply an op to crops of this size.
        """
        key = stream_key(self.seed, step, f"kornia/{rank}")
        real_BCHW, fake_BCHW = x_BPCHW.unbind(1)
        try:
            with _seeded(key, x_BPCHW.device):
                params = self.container.forward_parameters(real_BCHW.shape)
            halves = [self._apply(half_BCHW, params, key) for half_BCHW in (real_BCHW, fake_BCHW)]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever Kornia makes of an argument that it took
            size = f"{x_BPCHW.shape[-1]}x{x_BPCHW.shape[-2]}"
            raise UserError(f"augment.kornia fails on crops of {size}: {_one_line(error)}") from error
        return torch.stack(halves, dim=1).clamp_(0.0, 1.0)

    def _apply(self, half_BCHW: Tensor, params: list[Any], key: int) -> Tensor:
        """One half through the ops; one that draws again while it is applied draws the same for both."""
        with _seeded(key ^ 1, half_BCHW.device):
            out: Tensor = self.container(half_BCHW.clone(), params=params)
        return out


@contextmanager
def _seeded(key: int, device: torch.device) -> Iterator[None]:
    """Seeds the generators that Kornia draws from, the CPU's and the device's, and puts their states back."""
    with forked_generators(device):
        seed_generators(key, device)
        yield


def _op(place: int, op: Mapping[str, Any]) -> Any:
    """An op of the list, built.

    Raises:
        UserError: it is no 2-D op of `kornia.augmentation`, or refuses its arguments.
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
    except Exception as error:  # whatever Kornia raises for an argument is the user's to mend
        raise UserError(f"{where}: {op['name']}: {_one_line(error)}") from error


def _tuples(value: Any) -> Any:
    """Kornia takes tuples where YAML has lists."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
