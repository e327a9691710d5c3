"""The options of loss and optimiser.

This file imports nothing heavy, so that ``--help`` answers at once.
"""

from dataclasses import dataclass
from typing import Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, not_negative, refuse_idle


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its learning rate."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Which optimiser."""
    lr: float = 1e-4
    """Learning rate after the warm-up."""
    weight_decay: float = 0.0
    """Decay of weights, except biases and the scales of norms; coupled with the gradient in adam and sgd."""
    momentum: float = 0.9
    """Momentum of sgd."""
    schedule: Literal["plateau", "constant", "cosine", "linear"] = "plateau"
    """plateau: the rate is divided by ten when validation no longer improves; cosine, linear: it falls to
    min_lr at the last of `epochs`; constant: it stays."""
    warmup_steps: int = 0
    """Steps in which the rate rises from near 0 to lr."""
    warmup_epochs: float = 0.0
    """The same in epochs; a fraction is a part of one."""
    clip: float | None = None
    """Largest norm of the gradient of all weights together; a larger one is scaled down to it."""
    accumulate: int = 1
    """Pieces of a rank's batch that go through the model one after the other; the step is that of the whole
    batch, but for BatchNorm and dropout. For batches that don't fit into memory."""
    ema: float = 0.0
    """Decay of a moving average of the weights, such as .999: after each step, it takes 1 - ema of the new
    weights. It is validated and saved in place of the last weights; 0: there is none."""
    best_by: Literal["auc", "loss", "balanced_accuracy"] = "auc"
    """What a validation is judged by, for best.pt and for the learning rate: AUC, mean log loss, or balanced
    accuracy at probability .5. Of equally good epochs, best.pt is the last."""
    best_on: str | None = None
    """Of several validation sets, the name of the one that is judged; None: the mean of all."""
    patience: int = 5
    """Epochs without a better validation before the plateau schedule divides the rate by ten."""
    stop_after: int | None = None
    """Epochs without a better validation after which the run ends."""
    bn_batches: int = 16
    """Training batches over which BatchNorm's statistics are estimated anew before each validation and what
    is saved after it; 0: they stay moving averages. A rank holds its share of these batches in memory."""
    layer_decay: float = 1.0
    """Layer-wise decay of the rate, such as .75: the head has lr, each layer the rate of the one behind it
    times this (Bao et al., BEiT, ICLR 2022). Layers are blocks of a transformer, stages of our ResNets."""
    min_lr: float = 1e-6
    """Last rate of cosine and linear; a run ends when plateau's falls below it."""
    max_nonfinite: int = 10
    """Steps that may have a non-finite loss before the run stops; such a step does not change the weights."""

    def __post_init__(self) -> None:
        at_least_one(self, "patience", "accumulate", "stop_after", group="optim.")
        counts = ("max_nonfinite", "bn_batches", "weight_decay", "warmup_steps", "warmup_epochs")
        not_negative(self, *counts, group="optim.")
        if self.clip is not None and not self.clip > 0:
            raise UserError(f"optim.clip={self.clip}, expected more than 0")
        for name in ("momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optim.{name}={getattr(self, name)}, expected 0 <= {name} < 1")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"optim.layer_decay={self.layer_decay}, expected 0 < layer_decay <= 1")
        if self.optimizer != "sgd":
            refuse_idle(self, "momentum", because=f"optimizer={self.optimizer} has its own", group="optim.")
        if self.warmup_steps:
            refuse_idle(self, "warmup_epochs", because="warmup_steps says it in steps", group="optim.")
        if not 0 < self.min_lr <= self.lr:
            raise UserError(f"expected 0 < optim.min_lr <= optim.lr, found {self.min_lr} and {self.lr}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss of a batch of pairs: the weighted sum of its terms."""

    bce: float = 1.0
    """Weight of the binary cross-entropy."""
    smoothing: float = 0.0
    """Label smoothing: the labels are smoothing / 2 and 1 - smoothing / 2."""
    ranking: float = 0.0
    """Weight of a hinge that wants a fake's logit above that of its own real image by `margin`."""
    margin: float = 1.0
    """In logits."""
    contrastive: float = 0.0
    """Weight of supervised contrastive learning (Khosla et al., NeurIPS 2020): features of one class are to
    be alike, beside those of all images of a rank's batch. So the loss depends on the number of ranks."""
    temperature: float = 0.1
    """By which the likeness of features is divided there; small ones look at the nearest images."""
    drct: float = 0.0
    """Weight of the margin loss on features of DRCT (ICML 2024, with bce 0.7 and drct 0.3) and Dual Data
    Alignment (NeurIPS 2025, 0.5 and 0.5). It compares the images of a rank's batch, too."""
    drct_margin: float = 1.0
    """Distance at which a real and a fake image are far enough from each other; features lie within 2."""
    consistency: float = 0.0
    """Weight of the Jensen-Shannon divergence of an image's probabilities in its views (AugMix, ICLR 2020).
    Needs augment.views of 2 or more."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"loss.smoothing={self.smoothing}, expected 0 <= smoothing < 1")
        not_negative(self, "bce", "ranking", "margin", "contrastive", "drct", "consistency", group="loss.")
        for name in ("temperature", "drct_margin"):
            if not getattr(self, name) > 0:
                raise UserError(f"loss.{name}={getattr(self, name)}, expected more than 0")
        if self.drct_margin > 2:
            raise UserError(f"loss.drct_margin={self.drct_margin}, expected at most 2, the largest distance")
        if not (self.bce or self.ranking):
            raise UserError(
                "loss.bce and loss.ranking are 0, so nothing would tell the last layer what is fake; "
                "give one of them a weight"
            )
        owners = {
            "bce": "smoothing",
            "ranking": "margin",
            "contrastive": "temperature",
            "drct": "drct_margin",
        }
        for owner, name in owners.items():
            if not getattr(self, owner):
                refuse_idle(self, name, because=f"loss.{owner} is 0", group="loss.")

    @property
    def takes_features(self) -> bool:
        """Whether a term needs the features of the images, and compares them with each other."""
        return bool(self.contrastive or self.drct)
