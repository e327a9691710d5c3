"""Builds the loaders and the model of a run from its options."""

import hashlib
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from pack.dataset.dataset import Dataset
from pack.dataset.filter import Filter
from pack.dataset.selection import Selection, select
from pack.storage import Store, open_store
from recon.base.device import forked_generators, seed_generators
from recon.base.errors import UserError
from recon.base.progress import counted
from train.loader.loader import Choice, PairLoader
from train.loop.config import MAY_DIFFER, TrainConfig, flat_options
from train.model.backbones import TIMM
from train.model.lora import add_lora
from train.model.published.first import first_model
from train.model.trained import clear_head
from train.model.trial import try_out
from train.order.config import OrderConfig
from train.order.counter import permutation, stream_key
from train.order.epoch import check_world
from train.world.agree import refuse_unlike
from train.world.launch import Launch
from train.world.world import World

_LOG = logging.getLogger(__name__)


def agree_on_options(config: TrainConfig, world: World) -> None:
    """Refuses nodes with different options; called before a rank reads or writes anything.

    Raises:
        UserError: on all ranks.
    """
    given = {name: value for name, value in flat_options(asdict(config)) if name not in MAY_DIFFER}
    refuse_unlike(world, given | {"device found": world.device.type}, what="options")


def agree_on_data(loaders: Iterable[PairLoader], world: World) -> None:
    """Refuses nodes whose loaders read different datasets: one path may be a disk of each.

    Raises:
        UserError: on all ranks.
    """
    sources = [source for loader in loaders for source in loader.plan.sources]
    _agree({source.url: source.manifest.sha256 for source in sources}, world)


def _agree_on_dataset(dataset: Dataset, world: World) -> None:
    """Does the same for one dataset, before rank 0 chooses pairs of it for all."""
    _agree({dataset.store.url: dataset.manifest.sha256}, world)


def _agree(sha256: dict[str, str], world: World) -> None:
    facts = {f"sha256 of the manifest of {url}": value for url, value in sha256.items()}
    refuse_unlike(world, facts, what="datasets")


def build_loaders(config: TrainConfig, world: World) -> tuple[PairLoader, dict[str, PairLoader]]:
    """Builds the loaders of augmented training pairs and, by the set's name, of clean validation pairs."""
    training, sets = training_loader(config, world), config.data.validation_sets
    if world.is_first:
        _tell_limit(training, config.data.limit)
    return training, {name: _validation_loader(url, config, world) for name, url in sets.items()}


def check_sizes(order: OrderConfig, launch: Launch) -> None:
    """Refuses options that don't fit to a number of ranks that the run has, or may have later.

    Raises:
        UserError: with NNODES=2:4, an order that three nodes could not go on with.
    """
    for size in (launch.size, *launch.sizes):
        try:
            check_world(world_size=size, lanes=order.lanes, global_batch=order.global_batch)
        except UserError as error:
            if size == launch.size:
                raise
            nodes, least, most = (n // launch.local_size for n in (size, launch.sizes[0], launch.sizes[-1]))
            told = f"{least}:{most} lets the run go on with {nodes}" if least < most else f"{most}"
            raise UserError(f"NNODES={told}, but {error}") from None


def _tell_limit(loader: PairLoader, limit: int | None) -> None:
    """Warns of a limit that a dataset is too small for."""
    for source in loader.plan.sources:
        pairs = sum(source.ordered().shard_pairs)
        if limit is not None and pairs < limit:
            _LOG.warning("data.limit=%d leaves all %s of %s", limit, counted(pairs, "pair"), source.url)


def training_loader(config: TrainConfig, world: World) -> PairLoader:
    """The loader of augmented training pairs."""
    order = config.order
    check_world(world_size=world.size, lanes=order.lanes, global_batch=order.global_batch)
    chosen = limited(choice(config.data.filter, config.out, world), config.data.limit, order.seed)
    recipe = replace(config.augment, kornia=[])  # `Trainee.step` applies the Kornia ops
    batch = order.global_batch // world.size
    return PairLoader(
        config.data.train, batch_size=batch, augment=recipe, filter=chosen, **_shared(config, world)
    )


def _validation_loader(url: str, config: TrainConfig, world: World) -> PairLoader:
    data = config.data
    return PairLoader(
        url,
        batch_size=data.val_batch,
        augment=None,
        centre_crop=data.val_crop,
        filter=choice(data.val_filter, config.out, world),
        **_shared(config, world),
    )


def _shared(config: TrainConfig, world: World) -> dict[str, Any]:
    """The arguments that both loaders have."""
    order, data = config.order, config.data
    names = ("workers", "threads", "reads", "read_ahead_mb", "decode", "deadline_s", "cache_dir", "cache_gb")
    shared: dict[str, Any] = {name: getattr(data, name) for name in (*names, "fakes")}
    shared |= {name: getattr(order, name) for name in ("seed", "lanes", "block", "window")}
    shared |= {"rank": world.rank, "world_size": world.size, "device": world.device}
    return shared


def choice(text: str | None, out: str, world: World) -> Choice | None:
    """A function that selects the pairs of a dataset by a filter; None without a filter.

    Rank 0 scans the index of each dataset once and stores the selection in `out`.

    Raises:
        UserError: the filter is wrong or selects nothing. The returned function raises it, on all ranks.
    """
    if text is None:
        return None

    def choose(dataset: Dataset) -> Selection:
        _agree_on_dataset(dataset, world)
        data = world.from_first(partial(_selected, dataset, text, open_store(out)))
        return Selection.from_bytes(bytes(data), dataset.manifest, text)

    return choose


def limited(choose: Choice | None, limit: int | None, seed: int) -> Choice | None:
    """A function that selects at most `limit` pairs of what `choose` (None: all pairs) selects of a dataset.

    They are drawn by the seed, and are the same on all ranks and in all epochs.
    """
    if limit is None:
        return choose

    def some(dataset: Dataset) -> Selection:
        selection = choose(dataset) if choose else Selection.of_all(dataset.manifest)
        drawn = permutation(stream_key(seed, 0, "limit"), int(selection.counts.sum()))
        return selection.part(drawn[:limit])

    return some


def _selected(dataset: Dataset, text: str, store: Store) -> bytes:
    asked = f"{dataset.manifest.sha256} {Filter(text).canonical}"
    name = f"selection-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npz"
    if store.exists(name):
        data = store.read(name)
        with suppress(UserError):  # a damaged file is not used but written again
            Selection.from_bytes(data, dataset.manifest, text)
            return data
    data = select(dataset, text).to_bytes()
    with store.publish(name) as file:
        file.write(data)
    return data


def seeded_model(config: TrainConfig, *, resumed: bool) -> nn.Module:
    """Builds the model; its first weights depend on the seed only.

    Args:
        config: of the run.
        resumed: a checkpoint will replace the weights, so `config.model.weights` is not loaded.

    Raises:
        UserError: the weights or LoRA's layers don't fit the model, or the crops don't.
    """
    here = torch.device("cpu")  # models are built on the CPU, so no generator of a GPU is used
    with forked_generators(here):  # the caller's random state stays the same
        seed_generators(config.order.seed, here)
        model = first_model(replace(config.model, weights=None) if resumed else config.model)
        if config.model.stay_positive and not resumed:
            clear_head(model)
        if config.model.train == "lora":
            add_lora(model, config.model)
    if config.model.train == "lora" or config.model.backbone.startswith(TIMM):
        try_out(model, config.model.normalize, _sides(config))
    return model


def _sides(config: TrainConfig) -> list[int]:
    """Sides of the squares that the model is going to see, but for what Kornia's operations make of them."""
    sides = [] if config.augment.kornia else [config.augment.crop]
    return [*sides, config.data.val_crop] if config.data.val or not sides else sides
