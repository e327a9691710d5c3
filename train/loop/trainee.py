"""One optimizer step and one validation.

Shapes: B pairs of a rank, P = (real, fake), N = 2B images of the model's batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recon.base.device import seed_generators
from train.augment.final import final_ops
from train.evaluation.metrics import Summary, summarize
from train.evaluation.scoring import pair_logits
from train.loader.transfer import Batch
from train.loop.config import TrainConfig
from train.loop.statistics import estimate
from train.model.backbones import classifier_of
from train.model.normalize import normalize
from train.model.trained import freeze
from train.optim.losses import pair_loss
from train.optim.optimizer import build_optimizer
from train.world.world import World


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The results of a step, summed over all ranks."""

    loss_sum: float
    """Loss in nats (see `train.optim.losses`), summed over images; not finite if the step was left out."""
    images: int
    """Number of images, two for each pair."""
    applied: bool
    """Whether the optimizer changed the weights."""
    damaged: int
    """Number of pairs that are masked because they are damaged."""
    stop: bool
    """Whether any rank was asked to end."""


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
        self.full_images = 2 * config.order.global_batch
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
        self._average = _average(self.module, config.optim.ema)
        self.ddp = world.wrap(self.module)
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
        """For a checkpoint: ``model`` is `scored`; if that is an average, ``trained`` is what steps train."""
        found: dict[str, Any] = {"model": self.scored.state_dict()}
        if self._average is not None:
            found |= {"trained": self.module.state_dict(), "averaged": int(self._average.n_averaged)}
        return found

    def load_weights(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes the weights of a checkpoint of the same options."""
        self.scored.load_state_dict(checkpoint["model"])
        if self._average is not None:
            self.module.load_state_dict(checkpoint["trained"])
            self._average.n_averaged.fill_(checkpoint["averaged"])

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, batch: Batch, number: int, *, stop: bool = False) -> StepResult:
        """One step on all ranks together; if the loss is not finite, the weights do not change.

        Args:
            batch: this rank's share of the step; the number of valid pairs may differ by rank and be zero.
            number: of the step in the run; it seeds the dropout.
            stop: whether this rank was asked to end; the step's all-reduce tells it to all ranks.
        """
        seed_generators(_dropout_seed(self.seed, number, self.world.rank), self.world.device)
        # The forward pass changes BatchNorm's statistics before the loss is known to be finite.
        buffers = [buffer.clone() for buffer in self.module.buffers()]
        loss_sum, images = self._add_gradients(batch, number)
        # One all-reduce carries the loss, the counts and the stop flag, because each call costs a round trip
        # between the ranks. float64 holds all of them, the counts exactly.
        told = [images, len(batch.damaged), stop]
        mine = torch.cat([loss_sum[None], torch.tensor(told, dtype=torch.float64, device=self.world.device)])
        total_loss, total_images, damaged, stops = self.world.add_up(mine).tolist()
        applied = total_images > 0 and bool(np.isfinite(total_loss))
        if applied:
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
            self.optimizer.step()
            if self._positive is not None:
                self._positive.detach().clamp_(min=0)
            if self._average is not None:
                self._average.update_parameters(self.module)
        else:
            self._restore(buffers)
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(
            loss_sum=total_loss,
            images=int(total_images),
            applied=applied,
            damaged=int(damaged),
            stop=stops > 0,
        )

    def estimate_statistics(self, parts: Sequence[torch.Tensor]) -> None:
        """Estimates BatchNorm's statistics on all ranks together.

        Args:
            parts: of `train.loop.statistics.first_pairs`.
        """

        def score(pairs_BPCHW: torch.Tensor, number: int) -> None:
            self._logits_of(self.scored, self.final_ops(pairs_BPCHW.to(self.world.device), number))

        estimate(self.scored, score, parts, self.world)

    def _restore(self, buffers: list[torch.Tensor]) -> None:
        """Restores BatchNorm's statistics after a step was left out: a NaN in them would stay for good."""
        for buffer, before in zip(self.module.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _add_gradients(self, batch: Batch, number: int) -> tuple[torch.Tensor, int]:
        """Adds this step's gradients, averaged over the ranks; returns this rank's loss and images.

        The model never sees masked pairs. Each image weighs the same in every step, so an epoch's last step,
        with fewer of them, weighs by its share.
        """
        pairs_BPCHW = batch.images[batch.mask]
        images = 2 * len(pairs_BPCHW)
        if images:
            pairs_BPCHW = self.final_ops(pairs_BPCHW, number)
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        *pieces, last = pairs_BPCHW.tensor_split(self.pieces)
        with self.ddp.no_sync() if pieces else nullcontext():
            for piece in pieces:
                total += self._add_piece(piece, batch, number)
        return total + self._add_piece(last, batch, number), images

    def _add_piece(self, pairs_BPCHW: torch.Tensor, batch: Batch, number: int) -> torch.Tensor:
        """The loss in nats, summed over the images of a piece of the batch."""
        if not len(pairs_BPCHW):
            loss = self._dummy_loss(batch, number)
        else:
            self.forward.train()
            for part in self._still:
                part.eval()  # its BatchNorm keeps the statistics that it came with
            loss = pair_loss(self._logits_of(self.forward, pairs_BPCHW), self.loss)
        # DDP divides gradients by the number of ranks, so multiply by it here.
        (loss * (self.world.size / self.full_images)).backward()  # type: ignore[no-untyped-call]
        return loss.detach().double()

    def _logits_of(self, model: nn.Module, pairs_BPCHW: torch.Tensor) -> torch.Tensor:
        """(B, P) logits, in float32 at least, of pairs after all augmentation."""
        x_NCHW = normalize(pairs_BPCHW.flatten(0, 1), self.normalization)
        with self._autocast():
            logit_N: torch.Tensor = model(x_NCHW.contiguous(memory_format=self.layout))
        return logit_N.to(torch.promote_types(logit_N.dtype, torch.float32)).view(-1, 2)

    def _dummy_loss(self, batch: Batch, number: int) -> torch.Tensor:
        """A zero loss that depends on every weight, for a rank without valid pairs.

        DDP waits for the gradient of every weight on every rank. The image goes through the final ops, too:
        some of them change the size, and a model may accept one size only.
        """
        self.forward.eval()  # BatchNorm's statistics do not change in eval mode
        x_1CHW = normalize(self.final_ops(batch.images[:1], number)[:, 0], self.normalization)
        with self._autocast():
            logit_N = self.forward(x_1CHW.contiguous(memory_format=self.layout))
        zero: torch.Tensor = logit_N.float().sum() * 0.0
        return zero

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
        self.world.share_buffers(self.scored)  # checkpoints hold rank 0's, so validate the same model
        self.scored.eval()
        logits, masks = zip(*((self._logits(batch), batch.mask) for batch in batches), strict=True)
        logits_BP = self.world.gather(torch.cat(logits))[self.world.gather(torch.cat(masks))]
        labels_BP = np.broadcast_to([0, 1], logits_BP.shape)
        return summarize(labels_BP.ravel(), logits_BP.double().cpu().numpy().ravel())

    def _logits(self, batch: Batch) -> torch.Tensor:
        """(B, P) logits; zeros for masked pairs."""
        logits_BP = torch.zeros(batch.images.shape[:2], device=self.world.device)
        if len(pairs_BPCHW := batch.images[batch.mask]):
            with self._autocast():
                logits_BP[batch.mask] = pair_logits(self.scored, pairs_BPCHW, self.normalization)
        return logits_BP


def _average(model: nn.Module, decay: float) -> AveragedModel | None:
    """A moving average of the weights; its buffers follow those of the model."""
    if not decay:
        return None
    take: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=take)


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    # Primes, so that nearby seeds, steps and ranks give different sums; generators take 63 bits.
    return (seed * 1_000_003 + step * 8191 + rank) % 2**63
