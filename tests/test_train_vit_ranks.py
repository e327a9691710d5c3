"""A vision transformer of timm on two ranks, at crops other than its own side, killed and resumed."""

from pathlib import Path
from typing import Any

import pytest
from train_data import make_sets
from train_runs import Plan, Ranks, as_options, same_bits, small_config

from train.detector.detector import Detector
from train.draws.config import AugmentConfig
from train.loop.config import DataConfig
from train.model.checkpoint import load_checkpoint
from train.model.config import ModelConfig
from train.optim.config import OptimConfig

pytest.importorskip("timm")
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

LAST, KILLED = 4, -9
VIT = "timm:test_vit"  # made for 160x160
TRAINS: dict[str, dict[str, Any]] = {
    "head": {"model": ModelConfig(backbone=VIT, train="head"), "optim": OptimConfig(lr=0.01)},
    "lora": {
        "model": ModelConfig(backbone=VIT, train="lora"),
        "optim": OptimConfig(lr=0.01, accumulate=2, ema=0.5),
        "precision": "bfloat16",
    },
    "all": {"model": ModelConfig(backbone=VIT), "optim": OptimConfig(lr=0.01, layer_decay=0.8)},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=14, size=(130, 130))


@pytest.mark.parametrize(
    ("train", "crop"),
    [
        *[("head", 96), ("lora", 128), ("all", 96)],
        *(
            pytest.param(*case, marks=pytest.mark.soak)
            for case in (("head", 128), ("lora", 96), ("all", 128))
        ),
    ],
)
def test_a_transformer_killed_on_two_ranks_ends_with_the_bits_of_one_that_was_not(
    data: dict[str, str], tmp_path: Path, train: str, crop: int
) -> None:
    ranks = Ranks()
    read = DataConfig(train=data["train"], val=data["val"], val_crop=crop, val_batch=2, workers=0)
    more = TRAINS[train] | {"data": read, "augment": AugmentConfig(crop=crop), "checkpoint_every": 1}
    words = {name: as_options(small_config(data, tmp_path / name, **more)) for name in ("whole", "parts")}
    for name, plan, status in (("whole", Plan(ranks=()), 0), ("parts", Plan(step=3), KILLED)):
        statuses, text = ranks.run(2, words[name], tmp_path, plan)
        assert statuses == [status] * 2, text
    statuses, text = ranks.run(2, words["parts"], tmp_path)
    assert statuses == [0, 0], text
    assert "goes on from" in text
    for name in (f"step-{LAST:08d}.pt", "best.pt"):
        whole, parts = (load_checkpoint(tmp_path / one / name) for one in ("whole", "parts"))
        for key in {"model", "trained", "adapted", "optimizer", "schedule", "val"} & set(whole):
            assert same_bits(whole[key], parts[key]), (name, key)
    log = "metrics.jsonl"
    assert (tmp_path / "whole" / log).read_bytes() == (tmp_path / "parts" / log).read_bytes()
    Detector.load(tmp_path / "parts/best.pt", device="cpu")
