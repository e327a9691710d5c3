"""Chooses the checkpoint that a run continues from, and checks that the options still fit to it.

Rank 0 chooses and sends the bytes to all other ranks. So only rank 0 needs access to the run's directory,
and all ranks continue from the same checkpoint.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from pack.storage import Retry, Store, open_store
from recon.base.errors import UserError
from recon.base.progress import counted
from train.loop.config import DataConfig, TrainConfig, flat_options
from train.model.checkpoint import (
    BEST,
    DamagedCheckpointError,
    check_run,
    checkpoint_names,
    read_checkpoint,
)
from train.optim.schedule import end_of, judged, judged_by
from train.world.launch import Launch
from train.world.world import World

TRAINING, TRAINED, VALIDATED = "training", "trained", "validated"
"""The stages of an epoch in a checkpoint: not all steps done, not validated yet, validated."""

# May not change within a run.
_FIXED = (
    *(
        "augment.",
        "loss.",
        "data.fakes",
        "model.backbone",
        "model.dropout",
        "model.normalize",
        "model.train",
        "model.lora",
        "model.stay_positive",
    ),
    *("optim.lr", "optim.optimizer", "optim.weight_decay", "optim.momentum", "optim.schedule"),
    *("optim.warmup", "optim.ema", "optim.layer_decay"),
)
_TOLD = (  # may change; the run logs a warning
    *(
        "optim.best_by",
        "optim.best_on",
        "optim.bn_batches",
        "optim.patience",
        "optim.min_lr",
        "optim.max_nonfinite",
        "precision",
        "channels_last",
        "compile",
    ),
    *("data.val", "data.val_crop", "data.val_filter", "log_every"),
    *("optim.clip", "optim.accumulate", "optim.stop_after"),
)
# Long, because a checkpoint may be large; but shorter than NCCL's timeout: other ranks wait for 600 s.
_PATIENCE = Retry(deadline_s=300)

_LOG = logging.getLogger(__name__)


def open_run(out: str) -> Store:
    """The store of a run's checkpoints."""
    return open_store(out, _PATIENCE)


def find_checkpoint(config: TrainConfig, world: World, launch: Launch) -> dict[str, Any] | None:
    """The content of the newest whole checkpoint, the same on all ranks; None for a new run.

    Raises:
        UserError: on all ranks, if `out` holds another run, a run with other options, or only damaged
            checkpoints.
    """
    # With several nodes each torchrun counts its own restarts; one restarted node is enough.
    restarted = world.any(launch.restarts > 0)
    data = world.from_first(lambda: _choose(config, restarted, launch.job))
    return read_checkpoint(bytes(data), config.out) if len(data) else None


def next_epoch(checkpoint: Mapping[str, Any]) -> int:
    """The epoch in which a run continues."""
    epoch: int = checkpoint["epoch"]
    return epoch + 1 if checkpoint["stage"] == VALIDATED else epoch


def is_over(checkpoint: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether the run had already ended when the checkpoint was written."""
    if next_epoch(checkpoint) >= config.epochs:  # in the midst of a later epoch too, if --epochs was lowered
        return True
    state = checkpoint["schedule"]
    rate = state.get("rate", checkpoint["optimizer"]["param_groups"][0]["lr"])  # of earlier versions
    best = judged(state) if is_comparable(checkpoint, config) else None
    end = end_of(rate, best, config.optim, checkpoint["epoch"])
    return checkpoint["stage"] == VALIDATED and end is not None


def is_comparable(checkpoint: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether the validations before the checkpoint and those to come have the same sets and measure."""
    before = checkpoint["config"]["data"]
    same = all(before.get(name) == getattr(config.data, name) for name in ("val", "val_crop", "val_filter"))
    # Earlier versions did not say what they were judged by.
    return same and checkpoint["schedule"].get("by", "balanced_accuracy") == judged_by(config.optim)


def tell_over(checkpoint: Mapping[str, Any], world: World, out: str) -> None:
    """Logs on rank 0 that the run has already ended."""
    if world.is_first:
        ended = f"epoch {checkpoint['epoch']}, step {checkpoint['step']}"
        _LOG.info(
            "nothing to do: the run in %s ended after %s; raise --epochs or --optim.stop_after, or lower "
            "--optim.min_lr to go on",
            *(out, ended),
        )


def circumstances(world: World) -> dict[str, Any]:
    """What the last bits of the weights depend on in addition to the options."""
    facts = {"ranks": world.size, "threads": torch.get_num_threads(), "device": world.device.type}
    return facts | {"torch": str(torch.__version__)}


def tell_circumstances(checkpoint: Mapping[str, Any], world: World) -> None:
    """Logs on rank 0 which circumstances differ from those of the checkpoint."""
    before, now = checkpoint["circumstances"], circumstances(world)
    changed = [
        f"{name}={now[name]} (before {before.get(name)})" for name in now if now[name] != before.get(name)
    ]
    if changed and world.is_first:
        _LOG.warning(
            "goes on with %s: each step sees the same pairs, but the last bits of the weights may differ",
            ", ".join(changed),
        )


def _choose(config: TrainConfig, restarted: bool, job: str | None) -> bytes:
    """The bytes of the newest whole checkpoint; no bytes if there is no checkpoint."""
    store = open_run(config.out)
    names = checkpoint_names(store)
    # A run writes best.pt after its first checkpoint, so somebody has removed the checkpoints.
    if not names and store.exists(BEST):
        raise UserError(
            f"{config.out} holds a run's {BEST}, but no step-*.pt to go on from; restore one, choose another "
            "--out or delete it"
        )
    if names and config.resume != "auto" and not restarted:
        raise _refusal(config.out)
    for name in names:
        where = f"{store.url}/{name}"
        data = store.read(name)
        try:
            content = read_checkpoint(data, where)
        except DamagedCheckpointError as error:
            _LOG.warning("%s; trying the checkpoint before it", error)
            continue
        check_run(content, where)
        if config.resume != "auto" and content.get("job") != job:
            # A restart, but the checkpoint is of another job: this job's first start was refused, too.
            raise _refusal(config.out)
        check_options(content["config"], config)
        _LOG.info("goes on from %s: epoch %d, step %d", where, content["epoch"], content["step"])
        return data
    if names:
        raise UserError(
            f"none of the {counted(len(names), 'checkpoint')} in {store.url} is whole; restore one, "
            "or choose another --out"
        )
    return b""


def _refusal(out: str) -> UserError:
    return UserError(
        f"{out} holds a run already; go on with it by --resume auto, choose another --out or delete it"
    )


def check_options(before: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuses changed options that a run must keep; warns of changed options that affect the next steps.

    The loader itself refuses changes that would change the order of the pairs.

    Raises:
        UserError: the backbone, the normalisation, the augmentation or the first learning rate differs.
    """
    # What an earlier version did not know, it did as the defaults do.
    defaults = asdict(TrainConfig(out=config.out, data=DataConfig(train=config.data.train)))
    found, now = dict(flat_options(defaults)) | dict(flat_options(before)), dict(flat_options(asdict(config)))
    changed = [name for name in now if found[name] != now[name]]
    for name in changed:
        if name.startswith(_FIXED):
            raise UserError(
                f"{name} was {found[name]!r} when the run in {config.out} began and is {now[name]!r} now; "
                "set it back, or choose another --out"
            )
    for name in changed:
        if name in _TOLD:
            _LOG.warning("goes on with %s=%r, before %r", name, now[name], found[name])
