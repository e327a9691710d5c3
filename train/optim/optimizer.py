"""The optimiser of a run, and its learning rate at each step."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from train.model.trained import depths
from train.optim.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """The optimiser of the weights that are trained. Its first group has the full rate, `config.lr`.

    Its step is one fused operation, which can leave itself out on the device, see `step_where`.

    Raises:
        UserError: there is to be a layer decay, and the layers of a model of timm are unknown.
    """
    groups = _groups(model, config)
    if config.optimizer == "sgd":
        return _sgd(groups, config)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    # Without weight_decay, AdamW would take its own of .01 for what has none.
    return kind(groups, lr=config.lr, weight_decay=0.0, fused=True)


def _sgd(groups: list[dict[str, Any]], config: OptimConfig) -> Optimizer:
    sgd = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    if config.momentum:
        # torch 2.14 makes the momentum in the first step; if that one is left out, it keeps what was in
        # the memory before.
        for weight in (one for group in groups for one in group["params"]):
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return sgd


def step_where(optimizer: Optimizer, finite: torch.Tensor) -> None:
    """One step; if `finite` is false, nothing changes. The device decides this, so nobody waits for it.

    Args:
        optimizer: of `build_optimizer`.
        finite: () bool, on the device of the weights.
    """
    # What torch's GradScaler sets, too. Without a grad_scale, SGD on a CPU ignores found_inf (torch 2.14).
    found: Any = optimizer
    found.found_inf, found.grad_scale = (~finite).float(), torch.ones_like(finite, dtype=torch.float32)
    optimizer.step()


def _groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """One group; with a layer decay one a layer, head first, whose ``lr_scale`` is its share of the rate."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    if config.layer_decay == 1:
        return _by_weight_decay([weight for _, weight in trained], config.weight_decay)
    depth_of = depths(model)
    head = max(depth_of.values())
    found: list[dict[str, Any]] = []
    for depth in range(head, -1, -1):
        layer = [weight for name, weight in trained if depth_of[name] == depth]
        scale = config.layer_decay ** (head - depth)
        more = {"lr": config.lr * scale, "lr_scale": scale}
        found += [group | more for group in _by_weight_decay(layer, config.weight_decay) if group["params"]]
    return found


def _by_weight_decay(weights: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """One group, or two if there is a weight decay: it spares what has one dimension, as timm does.

    These are biases and the scales of norms, whose size says nothing about how complex a function is.
    """
    if not weight_decay:
        return [{"params": weights}]
    decayed = [weight for weight in weights if weight.dim() > 1]
    spared = [weight for weight in weights if weight.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared}]


def warmup_steps(config: OptimConfig, steps: int) -> int:
    """Steps in which the rate rises.

    Args:
        config: says it in steps or in epochs.
        steps: of an epoch.
    """
    return config.warmup_steps or math.ceil(config.warmup_epochs * steps)


def rate_at(step: int, *, rate: float, warmup: int, total: int, config: OptimConfig) -> float:
    """The learning rate of a step.

    It rises in a straight line to `rate` over the warm-up. Then it falls to `config.min_lr` at the end of the
    run, along half a cosine (Loshchilov and Hutter, SGDR, ICLR 2017) or a line, or stays.

    Args:
        step: number of the step in the run, from 0.
        rate: the full rate.
        warmup: steps of the warm-up; the last of them has the full rate.
        total: steps of the run.
        config: names the kind of schedule.
    """
    if step < warmup:
        return rate * (step + 1) / warmup
    if config.schedule not in ("cosine", "linear"):
        return rate
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    left = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
    return config.min_lr + (rate - config.min_lr) * left
