"""The null control of the whole pipeline: where the labels say nothing, nothing is learned."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import webdataset as wds

from pack.base.config import PackConfig
from pack.publish.packing import pack
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import Trainee
from train.model.build import build_model
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.world.world import open_world

PHOTOGRAPHS = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]
STEPS, TILE, CROP = 40, 64, 24


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of `tiny` on tiles of photographs, split by photograph into train and val."""
    folder = tmp_path_factory.mktemp("exchange")
    (folder / "photographs").mkdir()
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    for name in PHOTOGRAPHS:
        shutil.copy(Path(spec.origin).parent / "data" / name, folder / "photographs")
    source, out = str(folder / "photographs"), str(folder / "shards")
    pack(PackConfig(source=source, out=out, tile=TILE, tile_stride=64, val_fraction=0.25))
    return folder / "shards"


def exchange(sample: dict[str, Any]) -> dict[str, Any]:
    """Exchanges real and fake in the pairs whose id is odd."""
    if sample["__pair_id__"] % 2 == 0:
        return sample
    real, fake = (next(name for name in sample if name.startswith(half)) for half in ("real.", "fake."))
    return sample | {real: sample[fake], fake: sample[real]}


def heldout_auc(tiles: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> float:
    """Trains for a few steps and scores the held-out pairs, both with `change` made to their samples."""
    config = TrainConfig(
        out="unused",
        data=DataConfig(train=str(tiles / "train")),
        model=ModelConfig(backbone="highpass"),
        optim=OptimConfig(lr=2e-3),
    )
    shared: dict[str, Any] = {"lanes": 16, "workers": 0, "stages": [wds.map(change)]}
    augment = AugmentConfig(crop=CROP)
    loader = PairLoader(str(tiles / "train"), batch_size=16, augment=augment, **shared)
    heldout = PairLoader(str(tiles / "val"), batch_size=16, augment=None, centre_crop=TILE, **shared)
    with open_world("cpu") as world, torch.random.fork_rng():
        torch.manual_seed(0)
        trainee = Trainee(build_model(config.model), config, world)
        batches = (batch for _ in range(STEPS) for batch in loader)
        for number, batch in zip(range(STEPS), batches, strict=False):
            trainee.step(batch, number)
        auc = trainee.validate(heldout).auc
    assert auc is not None
    return auc


def test_nothing_is_learned_where_real_and_fake_are_exchanged_in_half_of_the_pairs(tiles: Path) -> None:
    assert 0.4 <= heldout_auc(tiles, exchange) <= 0.6


def test_the_same_steps_learn_the_trace_where_they_are_not(tiles: Path) -> None:
    assert heldout_auc(tiles, lambda sample: sample) > 0.8
