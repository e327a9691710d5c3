"""The losses of a pair. Each function is pure and gives a sum, so that pieces of a batch add up.

Shapes: B pairs, P = (real, fake).
"""

import torch
from torch.nn import functional

from train.optim.config import LossConfig


def pair_loss(logit_BP: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """The loss of a batch in nats, summed over its images.

    Args:
        logit_BP: above 0 for fake; float32 at least.
        config: which terms, and with which weights.
    """
    loss = cross_entropy(logit_BP, config.smoothing)
    if config.ranking:
        # A pair has two images, over which the whole is averaged later.
        loss = loss + 2 * config.ranking * ranking(logit_BP, config.margin)
    return loss


def cross_entropy(logit_BP: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Binary cross-entropy, summed over images; fakes are 1.

    Args:
        logit_BP: see `pair_loss`.
        smoothing: the labels are smoothing / 2 and 1 - smoothing / 2 (Szegedy et al., Rethinking the
            Inception Architecture, CVPR 2016, section 7, for two classes).
    """
    # Made on the device: a GPU would wait for numbers from the host.
    label_BP = torch.arange(2, dtype=logit_BP.dtype, device=logit_BP.device).expand_as(logit_BP)
    target_BP = label_BP * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logit_BP, target_BP, reduction="sum")


def ranking(logit_BP: torch.Tensor, margin: float) -> torch.Tensor:
    """How far a fake's logit is from `margin` above that of its real image, summed over pairs; 0 if beyond.

    Source: the hinge of Joachims, Optimizing Search Engines using Clickthrough Data, KDD 2002.
    """
    return (margin - (logit_BP[:, 1] - logit_BP[:, 0])).clamp(min=0).sum()
