"""The losses that compare the features of images with each other: those of one class, and of the two.

All images of a call are compared, of whatever pair or view. Features are divided by their norms first.

Shapes: N images, D features.
"""

import torch
from torch.nn import functional


def supervised_contrastive(
    feature_ND: torch.Tensor, label_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How hard it is to tell the other images of an image's class from all others, summed over images.

    For image i it is the mean over the others p of its class of -log(exp(z_i z_p / t) / sum over all others a
    of exp(z_i z_a / t)); 0 if there is no other of its class. Source: Khosla et al., Supervised Contrastive
    Learning, NeurIPS 2020, equation 2 (L_out).

    Args:
        feature_ND: any norm; at least two images.
        label_N: the classes.
        temperature: t, above 0.
    """
    z_ND = functional.normalize(feature_ND, dim=1)
    itself_NN = torch.eye(len(z_ND), dtype=torch.bool, device=z_ND.device)
    likeness_NN = (z_ND @ z_ND.T / temperature).masked_fill(itself_NN, -torch.inf)
    log_p_NN = likeness_NN - likeness_NN.logsumexp(dim=1, keepdim=True)
    same_NN = (label_N[:, None] == label_N) & ~itself_NN
    # A product with the mask would be NaN where an image meets itself: 0 times infinity.
    positive_N = log_p_NN.where(same_NN, log_p_NN.new_zeros(())).sum(dim=1)
    return -(positive_N / same_NN.sum(dim=1).clamp(min=1)).sum()


def margin_contrastive(feature_ND: torch.Tensor, label_N: torch.Tensor, margin: float) -> torch.Tensor:
    """How far images of one class are apart, plus how much those of two classes lack of `margin`.

    Both are means over the pairs of images that are not yet right: apart at all, or nearer than the margin.
    Distances are Euclidean, 0..2, after the features are divided by their norms.

    Sources: Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, without the
    squares, as DRCT (Chen et al., ICML 2024; utils/losses.py) and Dual Data Alignment (Chen et al., NeurIPS
    2025; Training/networks/trainer.py) use it: ContrastiveLoss(pos_margin=0, neg_margin=1) of
    pytorch-metric-learning with its defaults (LpDistance, AvgNonZeroReducer). Both give it the input of the
    last layer, and the classes real and fake.

    Args:
        feature_ND: any norm.
        label_N: the classes.
        margin: of two classes.
    """
    z_ND = functional.normalize(feature_ND, dim=1)
    # By differences: products, the default for many images, lose the small distances in rounding.
    apart_NN = torch.cdist(z_ND, z_ND, compute_mode="donot_use_mm_for_euclid_dist")
    same_NN = label_N[:, None] == label_N
    itself_NN = torch.eye(len(z_ND), dtype=torch.bool, device=z_ND.device)
    together = _mean_above_zero(apart_NN.masked_fill(~same_NN | itself_NN, 0))
    return together + _mean_above_zero((margin - apart_NN).clamp(min=0).masked_fill(same_NN, 0))


def _mean_above_zero(x_NN: torch.Tensor) -> torch.Tensor:
    # Counted on the device: an index by a mask would wait for it.
    return x_NN.sum() / (x_NN > 0).sum().clamp(min=1)
