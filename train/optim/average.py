"""A moving average of a model's weights."""

import copy

import torch
from torch import nn


class MovingAverage:
    """Averages the weights of a model over its steps, on the device alone.

    torch's AveragedModel would ask the device in every step whether it is the first.

    Args:
        model: what is averaged; the average begins with the weights after the first step.
        decay: after each step, the average takes 1 - decay of the new weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        """The averaged model; its buffers follow those of the model."""
        self._model, self._decay = model, decay
        self._steps = torch.zeros((), dtype=torch.int64, device=next(model.parameters()).device)

    @torch.no_grad()
    def update(self, applied: torch.Tensor) -> None:
        """Adds the weights after a step.

        Args:
            applied: () bool; if it is false, the step was left out and the average stays.
        """
        share = torch.where(self._steps > 0, 1 - self._decay, 1.0) * applied
        for average, weight in zip(self.module.parameters(), self._model.parameters(), strict=True):
            average.lerp_(weight, share.to(weight.dtype))
        buffers = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(self._model.buffers()))
        self._steps += applied

    @property
    def steps(self) -> int:
        """Steps that were averaged."""
        return int(self._steps)

    @steps.setter
    def steps(self, count: int) -> None:
        self._steps.fill_(count)
