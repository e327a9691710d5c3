"""Trains a detector on pairs.

In the order of the file: the loaders, the checkpoint to continue from, the model, then the epochs. After
the steps of an epoch come a validation without augmentation and an update of the learning rate schedule.
Checkpoints are published every `checkpoint_every` steps, after each epoch, and when the run is asked to end.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch

from recon.base.cpus import available_cpus
from recon.base.device import prepare_cpu
from recon.base.progress import Progress
from train.evaluation.metrics import Summary
from train.loader.loader import PairLoader
from train.loader.transfer import Batch
from train.loop.build import agree_on_data, agree_on_options, build_loaders, check_sizes, seeded_model
from train.loop.config import TrainConfig
from train.loop.lease import held_lease
from train.loop.logs import RunLog
from train.loop.quarantine import Quarantine
from train.loop.results import Results, StepDone
from train.loop.resume import (
    TRAINED,
    TRAINING,
    VALIDATED,
    circumstances,
    find_checkpoint,
    is_comparable,
    is_over,
    next_epoch,
    open_run,
    tell_circumstances,
    tell_over,
)
from train.loop.statistics import first_pairs, normed
from train.loop.trainee import Trainee
from train.loop.validation import Validated, Validation
from train.model.build import with_own_normalization
from train.model.checkpoint import (
    BEST,
    checkpoint_name,
    detector_of,
    pack_checkpoint,
    publish_checkpoint,
    remove_old,
)
from train.optim.schedule import Schedule
from train.output.lease import Lease
from train.output.profile import StepProfile
from train.world.launch import Launch
from train.world.stop import NOT_BEGUN, Preempted, StopFlag
from train.world.world import World, open_world

_LOG = logging.getLogger(__name__)


def train(config: TrainConfig, *, launch: Launch = Launch(), stop: StopFlag | None = None) -> None:  # noqa: B008
    """Trains a detector in this process, together with the other processes of the launch.

    Args:
        config: of the run.
        launch: how this process was started.
        stop: is set when the run is to end early.

    Raises:
        UserError: the options, the data or the run's directory don't fit together.
        Preempted: the run was asked to end; a checkpoint was saved, unless no step was done.
    """
    stop = stop or StopFlag()
    config = replace(config, model=with_own_normalization(config.model))
    with ExitStack() as stack:
        check_sizes(config.order, launch)
        with stop.deadly():  # a rank that waits for others can't look at the flag
            world = stack.enter_context(open_world(config.device, launch, config.world))
            agree_on_options(config, world)
        prepare_cpu(config.threads or max(1, available_cpus() // world.local_size))
        loader, validation = build_loaders(config, world)
        for one in (loaders := (loader, *validation.values())):
            stack.enter_context(closing(one))
        agree_on_data(loaders, world)
        if world.any(stop.is_set):  # on all ranks, or the others would wait in the next exchange
            raise Preempted(NOT_BEGUN)
        lease = stack.enter_context(held_lease(config.out, world, launch))
        checkpoint = find_checkpoint(config, world, launch)
        if checkpoint is not None and is_over(checkpoint, config):
            return tell_over(checkpoint, world, config.out)
        if checkpoint is not None:
            loader.load_state_dict(checkpoint["data"])
        loader.start()  # it reads while the model is built
        run = _Run(config, world, loader, validation, stop, launch, checkpoint, lease)
        with closing(run.trainee), closing(run.log):
            run.epochs()


class _Run:
    """A run in progress.

    Args:
        config: of the run.
        world: its processes.
        loader: of training pairs.
        validation: loaders of validation pairs, by the name of the set.
        stop: is set when the run is to end early.
        launch: how this process was started.
        checkpoint: to continue from; None for a new run.
        lease: on the run's URL; only rank 0 has it.
    """

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        loader: PairLoader,
        validation: dict[str, PairLoader],
        stop: StopFlag,
        launch: Launch,
        checkpoint: dict[str, Any] | None,
        lease: Lease | None,
    ) -> None:
        self.config, self.world, self.stop, self.launch = config, world, stop, launch
        self.loader = loader
        self.trainee = Trainee(seeded_model(config, resumed=checkpoint is not None), config, world)
        self.schedule = Schedule(
            self.trainee.optimizer, config.optim, steps=len(loader), epochs=config.epochs
        )
        self.epoch = self.step = 0
        self.stage = TRAINING
        self._first_pairs: list[torch.Tensor] | None = None
        if checkpoint is not None:
            self._load(checkpoint)
        self.log = RunLog(
            config,
            writes=world.is_first,
            state=checkpoint and checkpoint["log"],
            step=self.step,
            lease=lease,
        )
        nonfinite = 0 if checkpoint is None else checkpoint["nonfinite"]
        self.quarantine = Quarantine(world, limit=config.data.max_damaged, write=self.log.damaged)
        if checkpoint is not None:
            self.quarantine.load_state_dict(checkpoint["quarantine"], self.log.listed())
        self.log.quarantined = self.quarantine.causes
        limit = config.optim.max_nonfinite
        self.results = Results(self.log, self.quarantine, limit=limit, nonfinite=nonfinite)
        self.validation = Validation(
            validation,
            best_on=config.optim.best_on,
            trainee=self.trainee,
            quarantine=self.quarantine,
            stop=lambda: self.stop.is_set,
            leave=self._leave_if,
        )
        self.profile = StepProfile(config.out, config.profile if world.is_first else 0)

    def _load(self, checkpoint: dict[str, Any]) -> None:
        """Restores the state of a checkpoint, except for the loader's, the log files and the quarantine."""
        self.trainee.load_weights(checkpoint)
        self.trainee.optimizer.load_state_dict(checkpoint["optimizer"])
        comparable = is_comparable(checkpoint, self.config)
        self.schedule.load_state_dict(checkpoint["schedule"], anew=not comparable)
        if not comparable and self.world.is_first:
            _LOG.warning("the run is judged anew: its validations before were of other sets or measures")
        self.epoch, self.step = next_epoch(checkpoint), checkpoint["step"]
        self.stage = TRAINED if checkpoint["stage"] == TRAINED else TRAINING
        tell_circumstances(checkpoint, self.world)

    def epochs(self) -> None:
        """Trains until all epochs are done or the learning rate is below its limit."""
        with self.profile:
            self._all_epochs()
        if self.world.is_first:
            for told in filter(None, (self.schedule.told(), self.log.told())):
                _LOG.info("%s", told)

    def _all_epochs(self) -> None:
        while self.epoch < self.config.epochs:
            if self.stage == TRAINING:
                self.train_epoch()
            self.finish_epoch()
            if end := self.schedule.end:
                _LOG.info("done after epoch %d: %s", self.epoch - 1, end)
                break

    def train_epoch(self) -> None:
        """Trains on the pairs of an epoch, or on those that are left of it after a checkpoint."""
        stop = False
        with self._progress() as bar:
            for batch in self._batches():
                self.schedule.set_rate(self.step)
                result = self.trainee.step(batch, self.step, stop=self.stop.is_set)
                self.step += 1
                done = StepDone(epoch=self.epoch, step=self.step, lr=self.trainee.lr)
                self.results.add(batch, result, done, bar)
                stop = result.stop
                self.profile.step()
                if not self._has_read_all():  # after the last step comes the checkpoint below
                    self._save_midway(stop, bar)
            self.results.settle(bar)
            self.log.flush(epoch=self.epoch, step=self.step, lr=self.trainee.lr, bar=bar)
        self.stage = TRAINED
        # In epoch 0 always: `finish_epoch` writes best.pt before its checkpoint, and there must be one.
        if stop or self.config.data.val is not None or self.epoch == 0:
            self.save(self.stage)
        self._leave_if(stop)

    def _batches(self) -> Iterator[Batch]:
        """The batches of the epoch; the log counts the time of waiting for them."""
        batches = iter(self.loader)
        while True:
            with self.log.waiting():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _has_read_all(self) -> bool:
        return bool(self.loader.state_dict()["epoch"] > self.epoch)

    def _save_midway(self, stop: bool, bar: Progress | None) -> None:
        if stop or self.step % self.config.checkpoint_every == 0:
            self.results.settle(bar)
            self.save(TRAINING)
        self._leave_if(stop)

    def _leave_if(self, stop: bool) -> None:
        if stop:
            raise Preempted(
                f"asked to end: step {self.step} is in {self.config.out}; --resume auto continues from it"
            )

    def finish_epoch(self) -> None:
        """Validates, updates the learning rate, and saves a checkpoint, the best also as best.pt."""
        self._estimate_statistics()
        with self.log.spending("validation"):
            validated = self.validate()
        summary = None if validated is None else validated.judged
        is_best = self.schedule.turn(summary, self.epoch)
        self.save(VALIDATED, summary, is_best=is_best)
        self.epoch, self.stage = self.epoch + 1, TRAINING

    def _estimate_statistics(self) -> None:
        if self.config.optim.bn_batches and normed(self.trainee.module):
            if self._first_pairs is None:
                self._first_pairs = first_pairs(self.config, self.world)
            self.trainee.estimate_statistics(self._first_pairs)

    def validate(self) -> Validated | None:
        """Scores the validation pairs, if there are any."""
        validated = self.validation.run(epoch=self.epoch, step=self.step)
        if validated is not None:
            self.log.validation(validated, epoch=self.epoch, step=self.step)
        return validated

    def save(self, stage: str, summary: Summary | None = None, *, is_best: bool = False) -> None:
        """Publishes a checkpoint of the current state; all ranks wait until it is published."""
        with self.log.spending("checkpoints"):
            self.world.from_first(lambda: self._publish(stage, summary, is_best))

    def _publish(self, stage: str, summary: Summary | None, is_best: bool) -> bytes:
        """Publishes the logs and best.pt before the checkpoint: whoever finds it finds them, too."""
        self.log.sync()
        store = open_run(self.config.out)
        content = self._content(stage, summary)
        if is_best:
            publish_checkpoint(store, BEST, pack_checkpoint(detector_of(content)))
        publish_checkpoint(store, checkpoint_name(self.step), pack_checkpoint(content))
        remove_old(store, keep=self.config.keep_checkpoints, step=self.step)
        return b""

    def _content(self, stage: str, summary: Summary | None) -> dict[str, Any]:
        """All that a continued run needs; BatchNorm's statistics are rank 0's, as in validation."""
        return {
            "config": asdict(self.config),
            **self.trainee.weights(),
            "optimizer": self.trainee.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "data": self.loader.state_dict(),
            "stage": stage,
            "epoch": self.epoch,
            "step": self.step,
            "nonfinite": self.results.nonfinite,
            "val": None if summary is None else asdict(summary),
            "quarantine": self.quarantine.state_dict(),
            "log": self.log.state_dict(),
            "circumstances": circumstances(self.world),
            "job": self.launch.job,
        }

    def _progress(self) -> AbstractContextManager[Progress | None]:
        if not self.world.is_first:
            return nullcontext()
        done = self.loader.state_dict()["step"] * self.config.order.global_batch
        what = f"epoch {self.epoch}" + (f" from pair {done}" if done else "")
        return Progress(total=self.loader.pairs - done, unit="pairs", what=what)
