"""The null control: where the reconstruction is the real image, nothing tells the two halves apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_data import photograph, put_png

from pack.base.config import PackConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.publish.packing import pack
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import Trainee
from train.model.build import build_model
from train.model.config import ModelConfig
from train.model.normalize import normalize
from train.world.world import open_world

AUGMENTS = [AugmentConfig(crop=32, resized_crop_p=0.5), None]
IDS = ["training windows", "validation crops"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """JPEG, PNG and grey photographs, each stored beside its own pixels in PNG."""
    folder = tmp_path_factory.mktemp("null")
    sizes = [(40, 61), (57, 33), (20, 90), (64, 64)]
    for number in range(24):
        pixels = photograph(number, sizes[number % 4])
        path = folder / f"real/{number:02}.jpg"
        if number % 3 == 0:
            put_png(path.with_suffix(".png"), pixels)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            grey_or_colour = pixels[..., 0] if number % 3 == 1 else pixels
            Image.fromarray(grey_or_colour).save(path, quality=60 + number)
    out = str(folder / "packed")
    pack(
        PackConfig(
            source=str(folder / "real"), out=out, autoencoder="identity", codec="lossless-png", shard_pairs=7
        )
    )
    return out


def loader(url: str, augment: AugmentConfig | None) -> PairLoader:
    return PairLoader(url, batch_size=5, lanes=6, seed=3, augment=augment, centre_crop=48)


def test_the_source_has_codecs_that_the_reconstruction_has_not(url: str) -> None:
    assert {tuple(pair.members) for pair in iterate_pairs(url)} == {("real.jpg", "fake.png", "json")}
    codecs = open_dataset(url).table(0, ["real_codec", "fake_codec"]).to_pylist()
    assert {tuple(row.values()) for row in codecs} == {("jpeg", "png"), ("png", "png")}


@pytest.mark.parametrize("augment", AUGMENTS, ids=IDS)
def test_both_halves_have_equal_pixels(url: str, augment: AugmentConfig | None) -> None:
    pairs = 0
    for batch in loader(url, augment):
        assert torch.equal(batch.images[:, 0], batch.images[:, 1])
        pairs += len(batch.keys)
    assert pairs == 24


@pytest.mark.parametrize("augment", AUGMENTS, ids=IDS)
def test_both_halves_have_equal_logits(url: str, augment: AugmentConfig | None) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="highpass")).eval()
    logits = []
    with torch.no_grad():
        for batch in loader(url, augment):
            real, fake = (model(normalize(batch.images[batch.mask, half])) for half in (0, 1))
            assert torch.equal(real, fake)
            logits += real.tolist()
    assert np.std(logits) > 0  # the model does look at its input


def test_validation_finds_nothing(url: str, tmp_path: Path) -> None:
    config = TrainConfig(
        out=str(tmp_path), data=DataConfig(train=url), model=ModelConfig(backbone="highpass")
    )
    with open_world("cpu") as world:
        torch.manual_seed(0)
        summary = Trainee(build_model(config.model), config, world).validate(loader(url, None))
    assert (summary.n_real, summary.n_fake) == (24, 24)
    assert summary.auc == pytest.approx(0.5, abs=1e-9)
    assert summary.balanced_accuracy == pytest.approx(0.5, abs=1e-9)
