"""One optimiser step and one validation: what happens between a batch and a number.

Shapes: B pairs of a rank, P = (real, fake), N = 2B rows of the model.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from recon.base.device import seed_generators
from train.augment.final import final_ops
from train.evaluation.metrics import Summary, summarize
from train.evaluation.scoring import pair_logits
from train.loader.transfer import Batch
from train.loop.config import TrainConfig
from train.loop.world import World
from train.model.normalize import normalize


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step did, summed over all ranks."""

    loss_sum: float
    """Binary cross-entropy in nats, summed over images; not finite where the step was left out."""
    images: int
    """Images of the step, two a pair."""
    applied: bool
    """Whether the optimiser moved."""
    damaged: int
    """Pairs whose slots are masked because they are damaged."""
    stop: bool
    """Whether a rank was asked to end."""


class Trainee:
    """The detector under DDP with its optimiser.

    Args:
        model: maps images (N, C, H, W), as `config.model.normalize` gives them, to logits (N,).
        config: of the run.
        world: its processes.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, world: World) -> None:
        self.world = world
        self.seed = config.order.seed
        self.precision = config.precision
        self.normalization = config.model.normalize
        self.final_ops = final_ops(config.augment, config.order.seed, world.rank)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.module = model.to(world.device, memory_format=layout)  # type: ignore[call-overload]
        self.layout = layout
        self.ddp = world.wrap(self.module)
        self.forward: nn.Module = torch.compile(self.ddp) if config.compile else self.ddp  # type: ignore[assignment]
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=config.optim.lr)

    def close(self) -> None:
        """Lets DDP go, which holds the process group; afterwards only `module` may be used."""
        del self.ddp, self.forward

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, batch: Batch, number: int, *, stop: bool = False) -> StepResult:
        """One step on all ranks together; a non-finite loss leaves the weights as they are.

        Args:
            batch: this rank's share; ranks may have different numbers of valid pairs, even none.
            number: of the step in the run, seeds the dropout.
            stop: whether this rank was asked to end; all ranks learn it in the step's one exchange.
        """
        seed_generators(_dropout_seed(self.seed, number, self.world.rank), self.world.device)
        buffers = [buffer.clone() for buffer in self.module.buffers()]
        loss_sum, images = self._loss_sum(batch, number)
        told = torch.tensor([len(batch.damaged), stop], dtype=torch.float64, device=self.world.device)
        mine = torch.cat([torch.stack([loss_sum.detach().double(), images.double()]), told])
        total_loss, total_images, damaged, stops = self.world.add_up(mine).tolist()
        applied = total_images > 0 and bool(np.isfinite(total_loss))
        if applied:
            # DDP averages gradients over ranks; the loss is the mean over all ranks' images.
            (loss_sum * (self.world.size / total_images)).backward()
            self.optimizer.step()
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

    def _restore(self, buffers: list[torch.Tensor]) -> None:
        """Takes back what a left out step did to BatchNorm's statistics, where a NaN would stay."""
        for buffer, before in zip(self.module.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _loss_sum(self, batch: Batch, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed loss and the number of images; masked rows never enter the model."""
        pairs_BPCHW = batch.images[batch.mask]
        images = torch.tensor(2 * len(pairs_BPCHW), device=self.world.device)
        if not len(pairs_BPCHW):
            return self._dummy_loss(batch, number), images
        self.forward.train()
        x_NCHW, label_N = _rows(self.final_ops(pairs_BPCHW, number), self.normalization)
        with self._autocast():
            logit_N = self.forward(x_NCHW.contiguous(memory_format=self.layout))
        loss = functional.binary_cross_entropy_with_logits(logit_N.float(), label_N, reduction="sum")
        return loss, images

    def _dummy_loss(self, batch: Batch, number: int) -> torch.Tensor:
        """A zero that touches every weight, so that DDP's ranks stay together; BatchNorm sees nothing.

        Its row went through the final ops, too: some change the size, and a model may take one size only.
        """
        self.forward.eval()
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
        """Scores clean pairs on all ranks, with rank 0's buffers everywhere.

        Halves of equal pixels get equal scores (see `train.evaluation.scoring.pair_logits`).

        Args:
            batches: this rank's share, as many steps as on the other ranks.
        """
        self.world.share_buffers(self.module)
        self.module.eval()
        logits, masks = zip(*((self._logits(batch), batch.mask) for batch in batches), strict=True)
        logits_BP = self.world.gather(torch.cat(logits))[self.world.gather(torch.cat(masks))]
        labels_BP = np.broadcast_to([0, 1], logits_BP.shape)
        return summarize(labels_BP.ravel(), logits_BP.double().cpu().numpy().ravel())

    def _logits(self, batch: Batch) -> torch.Tensor:
        """(B, P) logits; zeros where masked."""
        logits_BP = torch.zeros(batch.images.shape[:2], device=self.world.device)
        if len(pairs_BPCHW := batch.images[batch.mask]):
            with self._autocast():
                logits_BP[batch.mask] = pair_logits(self.module, pairs_BPCHW, self.normalization)
        return logits_BP


def _rows(pairs_BPCHW: torch.Tensor, normalization: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised rows (N, C, H, W) and labels (N,), real and fake in turn."""
    x_NCHW = normalize(pairs_BPCHW.flatten(0, 1), normalization)
    label_N = torch.arange(len(x_NCHW), device=x_NCHW.device) % 2
    return x_NCHW, label_N.float()


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 8191 + rank) % 2**63
