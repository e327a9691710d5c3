"""One optimizer step and one validation.

Shapes: B pairs of a rank, V views of each, P = (real, fake), N = 2BV images of the model's batch.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from recon.base.device import seed_generators
from recon.base.errors import UserError
from train.augment.final import final_ops
from train.evaluation.metrics import Summary, summarize
from train.evaluation.scoring import pair_logits
from train.loader.transfer import Batch
from train.loop.config import TrainConfig
from train.loop.statistics import KeptStatistics, estimate
from train.model.backbones import classifier_of
from train.model.features import WithFeatures, outputs
from train.model.lora import lora_layers, merged, plain_state
from train.model.normalize import normalize
from train.model.trained import freeze
from train.optim.average import MovingAverage
from train.optim.losses import pair_loss
from train.optim.optimizer import build_optimizer, step_where
from train.world.later import Later
from train.world.world import World


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The results of a step, summed over all ranks."""

    loss: Later
    """See `loss_sum`."""
    images: int
    """Number of images, two for each view of a pair."""
    damaged: int
    """Number of pairs that are masked because they are damaged."""
    stop: bool
    """Whether any rank was asked to end."""
    views: int = 1
    """Of each pair."""

    @property
    def pairs(self) -> int:
        """Number of valid pairs."""
        return self.images // (2 * self.views)

    @property
    def loss_sum(self) -> float:
        """Loss in nats (see `train.optim.losses`), summed over images; waits until the device has it."""
        return self.loss.read()

    @property
    def applied(self) -> bool:
        """Whether the optimizer changed the weights: not without an image, or if the loss is not finite."""
        return self.images > 0 and math.isfinite(self.loss_sum)


class Trainee:
    """The detector under DDP, and its optimizer.

    Args:
        model: maps images (N, C, H, W), as `config.model.normalize` gives them, to logits (N,).
        config: of the run.
        world: its processes.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, world: World) -> None:
        self.world = world
        self.seed = config.order.seed
        self.views = config.augment.views
        self.full_images = 2 * self.views * config.order.global_batch
        """Images of a full step, all ranks together."""
        self.precision = config.precision
        self.normalization = config.model.normalize
        self.final_ops = final_ops(config.augment, config.order.seed, world.rank)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.module = model.to(world.device, memory_format=layout)  # type: ignore[call-overload]
        self.layout = layout
        self._still = freeze(self.module, config.model.train)
        self._positive = (
            self.module.get_parameter(f"{classifier_of(self.module)}.weight")
            if config.model.stay_positive
            else None
        )
        ema = config.optim.ema
        self._average = MovingAverage(self.module, ema) if ema else None
        self._statistics = KeptStatistics(self.module)
        self.ddp = world.wrap(WithFeatures(self.module) if config.loss.takes_features else self.module)
        self.forward: nn.Module = torch.compile(self.ddp) if config.compile else self.ddp  # type: ignore[assignment]
        self.optimizer = build_optimizer(self.module, config.optim)
        self.loss = config.loss
        self.pieces, self.clip = config.optim.accumulate, config.optim.clip

    def close(self) -> None:
        """Drops DDP, which holds the process group; afterwards only `module` may be used."""
        del self.ddp, self.forward

    @property
    def scored(self) -> nn.Module:
        """The detector that is validated and saved: the average of the weights, or the model itself."""
        average: nn.Module = self.module if self._average is None else self._average.module
        return average

    def weights(self) -> dict[str, Any]:
        """For a checkpoint: ``model`` is `scored`; if that is an average, ``trained`` is what steps train.

        With LoRA, ``model`` is merged, and ``adapted`` is `scored` as it is.
        """
        found: dict[str, Any] = {"model": plain_state(self.scored)}
        if lora_layers(self.scored):
            found["adapted"] = self.scored.state_dict()
        if self._average is not None:
            found |= {"trained": self.module.state_dict(), "averaged": self._average.steps}
        return found

    def load_weights(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes the weights of a checkpoint of the same options."""
        self.scored.load_state_dict(checkpoint.get("adapted", checkpoint["model"]))
        if self._average is not None:
            self.module.load_state_dict(checkpoint["trained"])
            self._average.steps = checkpoint["averaged"]
        self._statistics.forget()

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    @torch.autograd.profiler.record_function("step")
    def step(self, batch: Batch, number: int, *, stop: bool = False) -> StepResult:
        """One step on all ranks together; if the loss is not finite, the weights do not change.

        The host only queues work for a GPU. It waits for the hosts of the other ranks, which know their
        counts at once, but never for a result of a device.

        Args:
            batch: this rank's share of the step; the number of valid pairs may differ by rank and be zero.
            number: of the step in the run; it seeds the dropout.
            stop: whether this rank was asked to end; the step tells it to all ranks.

        Raises:
            UserError: the ranks are not at the same step.
        """
        seed_generators(_dropout_seed(self.seed, number, self.world.rank), self.world.device)
        # On its way while the step is queued.
        totals = self.world.totals([2 * len(batch.valid), len(batch.damaged), stop, number])
        self._statistics.keep()
        total_loss = self.world.add_up(self._add_gradients(batch, number))
        images, damaged, stops, numbers = totals()
        if numbers != number * self.world.size:
            raise UserError(
                f"rank {self.world.rank} is at step {number}, and not every other rank is; resume"
            )
        if images:
            self._update(total_loss.isfinite())
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(
            loss=Later(total_loss), images=images, damaged=damaged, stop=stops > 0, views=self.views
        )

    def _update(self, finite: torch.Tensor) -> None:
        """Changes weights and statistics, where `finite` is true: () bool on the device."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        step_where(self.optimizer, finite)
        if self._positive is not None:
            self._positive.detach().clamp_(min=0)
        # The forward pass has changed them before anyone could know of the loss.
        self._statistics.restore_unless(finite)
        if self._average is not None:
            self._average.update(finite)

    def estimate_statistics(self, parts: Sequence[torch.Tensor]) -> None:
        """Estimates BatchNorm's statistics on all ranks together.

        Args:
            parts: of `train.loop.statistics.first_pairs`.
        """

        def score(pairs_BPCHW: torch.Tensor, number: int) -> None:
            self._outputs_of(self.scored, self.final_ops(pairs_BPCHW.to(self.world.device), number))

        estimate(self.scored, score, parts, self.world)
        self._statistics.forget()

    def share_statistics(self) -> None:
        """Gives all ranks the statistics of rank 0, which checkpoints hold."""
        self.world.share_buffers(self.scored)
        self._statistics.forget()

    def _add_gradients(self, batch: Batch, number: int) -> torch.Tensor:
        """Adds this step's gradients, averaged over the ranks; returns this rank's loss.

        The model never sees masked pairs. Each image weighs the same in every step, so an epoch's last step,
        with fewer of them, weighs by its share.
        """
        pairs_BPCHW = batch.valid
        if len(pairs_BPCHW):
            pairs_BPCHW = self.final_ops(pairs_BPCHW, number)
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        # The views of a pair stay together. All sizes are named, because -1 can't stand for no pair.
        count, *image = pairs_BPCHW.shape
        views_BVPCHW = pairs_BPCHW.view(count // self.views, self.views, *image)
        *pieces, last = views_BVPCHW.tensor_split(self.pieces)
        with self.ddp.no_sync() if pieces else nullcontext():
            for piece in pieces:
                total += self._add_piece(piece, batch, number)
        return total + self._add_piece(last, batch, number)

    def _add_piece(self, views_BVPCHW: torch.Tensor, batch: Batch, number: int) -> torch.Tensor:
        """The loss in nats, summed over the images of a piece of the batch."""
        if not len(views_BVPCHW):
            loss = self._dummy_loss(batch, number)
        else:
            self.forward.train()
            for part in self._still:
                part.eval()  # its BatchNorm keeps the statistics that it came with
            logits, features = self._outputs_of(self.forward, views_BVPCHW)
            loss = pair_loss(logits, self.loss, features)
        # DDP divides gradients by the number of ranks, so multiply by it here.
        (loss * (self.world.size / self.full_images)).backward()  # type: ignore[no-untyped-call]
        return loss.detach().double()

    def _outputs_of(self, model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits (..., P) and, if the model gives them, features (..., P, D), both in float32 at least.

        Args:
            model: the detector, with or without features.
            images: (..., P, C, H, W) after all augmentation.
        """
        x_NCHW = normalize(images.flatten(0, -4), self.normalization)
        with self._autocast():
            logit_N, feature_ND = outputs(model(x_NCHW.contiguous(memory_format=self.layout)))
        leading = images.shape[:-3]
        return logit_N.view(leading), None if feature_ND is None else feature_ND.view(*leading, -1)

    def _dummy_loss(self, batch: Batch, number: int) -> torch.Tensor:
        """A zero loss that depends on every weight, for a rank without valid pairs.

        DDP waits for the gradient of every weight on every rank. The image goes through the final ops, too:
        some of them change the size, and a model may accept one size only.
        """
        self.forward.eval()  # BatchNorm's statistics do not change in eval mode
        x_1CHW = normalize(self.final_ops(batch.images[:1], number)[:, 0], self.normalization)
        with self._autocast():
            logit_N, _ = outputs(self.forward(x_1CHW.contiguous(memory_format=self.layout)))
        return logit_N.sum() * 0.0

    def _autocast(self) -> AbstractContextManager[object]:
        bf16 = self.precision == "bfloat16"
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=bf16)

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> Summary:
        """Scores the validation pairs on all ranks; all ranks use the buffers of rank 0.

        If both images of a pair have equal pixels, they get equal scores (see `pair_logits`).

        Args:
            batches: this rank's share, as many batches as on the other ranks.
        """
        self.share_statistics()
        self.scored.eval()
        with merged(self.scored):  # as it is saved
            logits, masks = zip(*((self._logits(batch), batch.mask) for batch in batches), strict=True)
        logits_BP = self.world.gather(torch.cat(logits))[self.world.gather(torch.cat(masks))]
        labels_BP = np.broadcast_to([0, 1], logits_BP.shape)
        return summarize(labels_BP.ravel(), logits_BP.double().cpu().numpy().ravel())

    def _logits(self, batch: Batch) -> torch.Tensor:
        """(B, P) logits; zeros for masked pairs."""
        logits_BP = torch.zeros(batch.images.shape[:2], device=self.world.device)
        if len(batch.valid):
            with self._autocast():
                logits_BP[batch.mask] = pair_logits(self.scored, batch.valid, self.normalization)
        return logits_BP


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    # Primes, so that nearby seeds, steps and ranks give different sums; generators take 63 bits.
    return (seed * 1_000_003 + step * 8191 + rank) % 2**63
