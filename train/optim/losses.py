"""The losses of pairs. Each term is a sum over images, so that each image weighs the same in every step.

Shapes: B pairs, V views of each, P = (real, fake), N = B x V x P images, D features.
"""

import math

import torch
from torch.nn import functional

from train.optim.config import LossConfig
from train.optim.contrastive import margin_contrastive, supervised_contrastive


def pair_loss(
    logit_BVP: torch.Tensor, config: LossConfig, feature_BVPD: torch.Tensor | None = None
) -> torch.Tensor:
    """The loss of a batch in nats, summed over its images.

    A term that is defined as a mean over images or pairs of them counts N times, N being the number of images
    of this call: divided by N, the loss is the weighted sum of the terms as their papers define them.
    Pieces of a batch add up, but for the terms on features: these compare all images of a call with each
    other, so pieces have other comparisons.

    Args:
        logit_BVP: above 0 for fake; float32 at least.
        config: which terms, and with which weights.
        feature_BVPD: what the last layer gets; needed if `LossConfig.takes_features`.
    """
    terms = []
    if config.bce:
        terms.append(config.bce * cross_entropy(logit_BVP, config.smoothing))
    if config.ranking:
        # A pair has two images.
        terms.append(2 * config.ranking * ranking(logit_BVP, config.margin))
    if config.consistency:
        terms.append(config.consistency * consistency(logit_BVP))
    if config.takes_features:
        assert feature_BVPD is not None
        terms.append(_on_features(feature_BVPD, config))
    total = terms[0]  # `LossConfig` has at least one
    for term in terms[1:]:
        total = total + term
    return total


def _on_features(feature_BVPD: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """The terms that compare the features of all images of a batch."""
    feature_ND = feature_BVPD.flatten(0, -2)
    label_N = torch.arange(2, device=feature_ND.device).repeat(len(feature_ND) // 2)  # P is the last axis
    total = feature_ND.new_zeros(())
    if config.contrastive:
        total = total + config.contrastive * supervised_contrastive(feature_ND, label_N, config.temperature)
    if config.drct:
        mean = margin_contrastive(feature_ND, label_N, config.drct_margin)
        total = total + config.drct * len(feature_ND) * mean
    return total


def cross_entropy(logit_BVP: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Binary cross-entropy, summed over images; fakes are 1.

    Args:
        logit_BVP: see `pair_loss`; only the last axis matters.
        smoothing: the labels are smoothing / 2 and 1 - smoothing / 2 (Szegedy et al., Rethinking the
            Inception Architecture, CVPR 2016, section 7, for two classes).
    """
    label_P = torch.arange(2, dtype=logit_BVP.dtype, device=logit_BVP.device)  # made there, not copied
    target_BVP = (label_P * (1 - smoothing) + smoothing / 2).expand_as(logit_BVP)
    return functional.binary_cross_entropy_with_logits(logit_BVP, target_BVP, reduction="sum")


def ranking(logit_BVP: torch.Tensor, margin: float) -> torch.Tensor:
    """How far a fake's logit is from `margin` above that of its real image, summed over pairs; 0 if beyond.

    The two images are of one view. Source: the hinge of Joachims, Optimizing Search Engines using
    Clickthrough Data, KDD 2002.
    """
    return (margin - (logit_BVP[..., 1] - logit_BVP[..., 0])).clamp(min=0).sum()


def consistency(logit_BVP: torch.Tensor) -> torch.Tensor:
    """How far the probabilities of an image's views are from their mean M: KL(p || M), summed over images.

    The mean over the views of an image is their Jensen-Shannon divergence, 0..log V nats. Source: AugMix,
    Hendrycks et al., ICLR 2020, equation 3 (Jensen-Shannon of three views, all of them with gradient), here
    of any number of views and for two classes.

    Args:
        logit_BVP: see `pair_loss`; with one view the result is 0.
    """
    total = torch.zeros_like(logit_BVP)
    for sign in (1, -1):  # of fake, and of real; logarithms, as probabilities near 0 or 1 would be rounded
        log_p_BVP = functional.logsigmoid(sign * logit_BVP)
        log_mean_B1P = log_p_BVP.logsumexp(dim=1, keepdim=True) - math.log(logit_BVP.shape[1])
        total = total + log_p_BVP.exp() * (log_p_BVP - log_mean_B1P)
    return total.sum()
