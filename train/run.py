"""The recipe: pairs in, a detector out.

Read from the top: the loaders, the model, then epochs of steps, each followed by a validation
on clean images, a turn of the plateau schedule, and checkpoints of the last and the best.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pack.storage import open_store
from recon.device import prepare_cpu
from recon.errors import UserError
from recon.progress import Progress
from train.checkpoint import save_checkpoint
from train.config import TrainConfig
from train.loader import Batch, PairLoader
from train.logs import RunLog
from train.metrics import Summary
from train.model import build_model
from train.order import check_world
from train.steps import Trainee
from train.world import World, open_world

_LOG = logging.getLogger(__name__)


def train(config: TrainConfig) -> None:
    """Trains a detector as `config` says, as one process of those that torchrun started.

    Raises:
        UserError: the options, the data or the output directory don't fit together.
    """
    with open_world(config.device) as world:
        prepare_cpu(config.threads or max(1, (os.cpu_count() or 1) // world.local_size))
        out = _claim(config.out)
        loader, validation = build_loaders(config, world)
        trainee = Trainee(_seeded_model(config), config, world)
        plateau = _plateau(trainee, config.optim.patience)
        log = RunLog(out, every=config.log_every, writes=world.is_first)
        try:
            _Run(config, world, loader, validation, trainee, plateau, log).epochs()
        finally:
            log.close()


def build_loaders(config: TrainConfig, world: World) -> tuple[PairLoader, PairLoader | None]:
    """The loaders of augmented training pairs and of clean validation pairs."""
    order, data = config.order, config.data
    check_world(world_size=world.size, lanes=order.lanes, global_batch=order.global_batch)
    shared: dict[str, Any] = {
        "seed": order.seed,
        "rank": world.rank,
        "world_size": world.size,
        "lanes": order.lanes,
        "block": order.block,
        "window": order.window,
        "threads": data.threads,
        "read_ahead_mb": data.read_ahead_mb,
        "device": world.device,
    }
    batch = order.global_batch // world.size
    loader = PairLoader(data.train, batch_size=batch, augment=config.augment, **shared)
    if data.val is None:
        return loader, None
    return loader, PairLoader(
        data.val, batch_size=data.val_batch, augment=None, centre_crop=data.val_crop, **shared
    )


class _Run:
    """A run in progress."""

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        loader: PairLoader,
        validation: PairLoader | None,
        trainee: Trainee,
        plateau: ReduceLROnPlateau,
        log: RunLog,
    ) -> None:
        self.config, self.world, self.log = config, world, log
        self.loader, self.validation = loader, validation
        self.trainee, self.plateau = trainee, plateau
        self.step = self.left_out = 0
        self.best = -1.0

    def epochs(self) -> None:
        """Trains until the epochs or the learning rate run out."""
        for epoch in range(self.config.epochs):
            self.train_epoch(epoch)
            summary = self.validate(epoch)
            self.save(epoch, summary)
            if self.trainee.lr < self.config.optim.min_lr * (1 - 1e-6):
                _LOG.info("learning rate fell below %g after epoch %d: done", self.config.optim.min_lr, epoch)
                return

    def train_epoch(self, epoch: int) -> None:
        """One pass over the pairs, each exactly once."""
        pairs = self.loader.dataset.manifest.pairs
        with self._progress(pairs, f"epoch {epoch}") as bar:
            for batch in self._batches():
                result = self.trainee.step(batch, self.step)
                self.step += 1
                self._count_left_out(result.applied)
                self.log.step(result, epoch=epoch, step=self.step, lr=self.trainee.lr, bar=bar)
            self.log.flush(epoch=epoch, step=self.step, lr=self.trainee.lr, bar=bar)

    def _batches(self) -> Iterator[Batch]:
        """The epoch's batches, the time spent waiting for them being logged."""
        batches = iter(self.loader)
        while True:
            with self.log.waiting():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _count_left_out(self, applied: bool) -> None:
        self.left_out += not applied
        if self.left_out > self.config.optim.max_nonfinite:
            raise UserError(
                f"{self.left_out} steps had a non-finite loss, the last is step {self.step}; "
                "lower optim.lr, use precision=float32, or raise optim.max_nonfinite"
            )

    def validate(self, epoch: int) -> Summary | None:
        """Scores the clean validation pairs and turns the schedule."""
        if self.validation is None:
            self.world.share_buffers(self.trainee.module)
            return None
        self.validation.set_epoch(0)
        summary = self.trainee.validate(self.validation)
        self.log.validation(summary, epoch=epoch, step=self.step)
        self.plateau.step(_score(summary))
        if self.world.is_first:
            auc, balanced = summary.auc or 0.0, _score(summary)
            _LOG.info("epoch %d: validation AUC %.4f, balanced accuracy %.4f", epoch, auc, balanced)
        return summary

    def save(self, epoch: int, summary: Summary | None) -> None:
        """Keeps this epoch as last.pt, and as best.pt where no other validated better."""
        score = -1.0 if summary is None else _score(summary)
        is_best = summary is None or score > self.best
        self.best = max(self.best, score)
        if not self.world.is_first:
            return
        content = self._content(epoch, summary)
        store = open_store(self.config.out)
        save_checkpoint(store, "last.pt", content)
        if is_best:
            save_checkpoint(store, "best.pt", content)

    def _content(self, epoch: int, summary: Summary | None) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "model": self.trainee.module.state_dict(),
            "optimizer": self.trainee.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
            "data": self.loader.state_dict(),
            "epoch": epoch,
            "step": self.step,
            "best": self.best,
            "val": None if summary is None else asdict(summary),
        }

    def _progress(self, total: int, what: str) -> AbstractContextManager[Progress | None]:
        return Progress(total=total, unit="pairs", what=what) if self.world.is_first else nullcontext()


def _plateau(trainee: Trainee, patience: int) -> ReduceLROnPlateau:
    """Divides the rate by ten at the `patience`-th epoch in a row without any gain."""
    allowed = max(0, patience - 1)  # torch counts the epochs that it lets pass
    return ReduceLROnPlateau(
        trainee.optimizer, mode="max", factor=0.1, patience=allowed, threshold=0.0, eps=0.0
    )


def _score(summary: Summary) -> float:
    return summary.balanced_accuracy or 0.0


def _seeded_model(config: TrainConfig) -> nn.Module:
    """The model, its first weights a function of the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(config.order.seed)
        return build_model(config.model)


def _claim(out: str) -> Path:
    """The run's directory; another run's is left alone."""
    if "://" in out:
        raise UserError(f"out={out}, expected a local directory")
    path = Path(out).expanduser()
    if (path / "last.pt").exists():
        raise UserError(f"{path} holds a run already; choose another --out or delete it")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't make the directory out={path}: {error.strerror}") from error
    return path
