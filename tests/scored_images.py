"""Small images to score, a folder tree of them, and an untrained detector that scores them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recon.image.codec import Picture, encode
from train.model.build import build_model
from train.model.config import ModelConfig

SIZES = [(16, 16), (24, 16), (17, 9)]


def pixels(seed: int, size: tuple[int, int] = (16, 16), channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def png(
    seed: int, size: tuple[int, int] = (16, 16), channels: int = 3, orientation: int | None = None
) -> bytes:
    array = pixels(seed, size, channels)
    return encode(array, Picture(pixels=array, codec="png", orientation=orientation), "png")


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def save_untrained(path: Path, *, seed: int = 3, gain: float = 1, **model: str) -> str:
    """Writes a checkpoint with random weights, its logits multiplied by `gain`; returns its path."""
    torch.manual_seed(seed)
    options = {"backbone": "highpass", **model}
    state = build_model(ModelConfig(**options)).state_dict()  # type: ignore[arg-type]
    if gain != 1:
        state["fc.weight"] *= gain
    content = {"config": {"model": {"weights": None, **options}}, "model": state}
    torch.save({"format": "pairstream-checkpoint/1", **content}, path)
    return str(path)


@pytest.fixture(name="checkpoint", scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small detector with random weights."""
    return save_untrained(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture(name="tree")
def image_tree(tmp_path: Path) -> Path:
    """Two generators; 5 real and 5 fake images of three sizes, one of them grey."""
    for index, size in enumerate([*SIZES, (16, 16)]):
        put(tmp_path / f"tree/val/gan/0_real/{index}.png", png(index, size, 1 if index == 3 else 3))
        put(tmp_path / f"tree/val/gan/1_fake/{index}.png", png(index + 10, size))
    put(tmp_path / "tree/val/ldm/0_real/deep/er/a.PNG", png(20))
    put(tmp_path / "tree/val/ldm/1_fake/a b.é.png", png(21))
    put(tmp_path / "tree/val/ldm/1_fake/readme.txt", b"no image")
    return tmp_path / "tree"
