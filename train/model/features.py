"""A detector that gives its features beside its logits, for losses on them."""

from typing import Any

import torch
from torch import Tensor, nn

from train.model.backbones import classifier_of


class WithFeatures(nn.Module):
    """Gives logits (N,) and features (N, D): what the detector's last layer gets.

    The detector itself, its weights and their names stay as they are.

    Args:
        model: a detector of `train.model.build`.

    Raises:
        UserError: see `train.model.backbones.classifier_of`.
    """

    def __init__(self, model: nn.Module) -> None:
        """Adds a hook to the last layer, which stays there."""
        super().__init__()
        self.model = model
        self._feature_ND: Tensor | None = None
        # Added once: torch.compile can't follow one that is added and removed at each call.
        model.get_submodule(classifier_of(model)).register_forward_pre_hook(self._keep)

    def _keep(self, _layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._feature_ND = arguments[0]

    def forward(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of normalised images."""
        logit_N = self.model(x_NCHW)
        feature_ND, self._feature_ND = self._feature_ND, None
        assert feature_ND is not None, "the last layer was not called"
        return logit_N, feature_ND


def outputs(found: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """What a detector gave: logits, and features or None; in float32 at least, whatever autocast made."""
    logit_N, feature_ND = found if isinstance(found, tuple) else (found, None)
    return _wide(logit_N), None if feature_ND is None else _wide(feature_ND)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
