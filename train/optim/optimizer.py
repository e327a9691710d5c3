"""The optimiser of a run, and its learning rate at each step."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from train.optim.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """The optimiser of the weights that are trained. Its first learning rate is `config.lr`."""
    groups = _groups(model, config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    # Without this, AdamW would take its own weight decay of .01 for what has none.
    return kind(groups, lr=config.lr, weight_decay=0.0)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """One group, or two if there is a weight decay: it spares what has one dimension, as timm does.

    These are biases and the scales of norms, whose size says nothing about how complex a function is.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not weight_decay:
        return [{"params": trained}]
    decayed = [weight for weight in trained if weight.dim() > 1]
    spared = [weight for weight in trained if weight.dim() <= 1]
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
