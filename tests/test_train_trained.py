"""Which weights are trained, Stay-Positive, and vision transformers of timm at any crop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_data import make_sets
from train_ranks import CONFIG, random_batch
from train_runs import same_bits, small_config, stop_at

from recon.base.errors import UserError
from train.draws.config import AugmentConfig
from train.loop import run
from train.loop.trainee import Trainee
from train.model.backbones import classifier_of
from train.model.build import build_model, model_from_checkpoint, with_own_normalization
from train.model.checkpoint import load_checkpoint
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.world.stop import Preempted
from train.world.world import World, open_world

VIT = "timm:test_vit"  # patches of 16 pixels, made for 160x160


@pytest.fixture
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=16, size=(48, 48), val_size=(50, 70))


def changed(world: World, **model: Any) -> tuple[set[str], Trainee]:
    """The weights and buffers that three steps change, without the last part of their names."""
    torch.manual_seed(0)
    chosen = ModelConfig(**model)
    one = Trainee(build_model(chosen), replace(CONFIG, model=chosen, optim=OptimConfig(lr=0.1)), world)
    before = {name: value.clone() for name, value in one.module.state_dict().items()}
    for step in range(3):
        assert one.step(random_batch(4, seed=step), step).applied
    one.estimate_statistics([random_batch(4, seed=9).images])
    after = one.module.state_dict()
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}, one


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ({"backbone": "highpass", "train": "head"}, {"fc"}),
        ({"backbone": "highpass", "train": "last:1"}, {"fc", "block4.0", "block4.1"}),
        ({"backbone": "res18nodown", "train": "head"}, {"fc"}),
        ({"backbone": VIT, "train": "head"}, {"timm.head"}),
    ],
)
def test_only_what_is_trained_changes_and_no_statistics_of_the_rest(
    world: World, model: dict[str, Any], parts: set[str]
) -> None:
    pytest.importorskip("timm")
    assert changed(world, **model)[0] == parts


def test_the_last_blocks_of_a_transformer_are_trained_with_all_behind_them(world: World) -> None:
    pytest.importorskip("timm")
    found, one = changed(world, backbone=VIT, train="last:2")
    count = len(list(one.module.get_submodule("timm.blocks").children()))
    last = [f"timm.blocks.{number}." for number in (count - 2, count - 1)]
    assert all(name.startswith((*last, "timm.norm", "timm.fc_norm", "timm.head")) for name in found)
    assert {"timm.head", *(f"{block}mlp.fc1" for block in last)} <= found


def test_stay_positive_leaves_no_negative_contribution(world: World) -> None:
    free, _ = changed(world, backbone="res18nodown", train="head")
    found, one = changed(world, backbone="res18nodown", train="head", stay_positive=True)
    assert found == free == {"fc"}
    weight = one.module.get_parameter(f"{classifier_of(one.module)}.weight")
    assert bool((weight >= 0).all())
    assert bool((weight == 0).any())
    features: list[torch.Tensor] = []
    one.module.get_submodule("dropout").register_forward_hook(lambda _m, x, _y: features.append(x[0]))
    one.module.eval()(torch.rand(2, 3, 16, 16))
    assert bool((features[0] * weight >= 0).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "tail"}, r"model.train=tail, expected all, head, lora, or last:N"),
        ({"train": "last:0"}, r"model.train=last:0, expected all"),
        ({"train": "last:5"}, r"model.train=last:5, but the model has 4 blocks"),
    ],
)
def test_what_can_not_be_trained_is_refused(world: World, options: dict[str, Any], message: str) -> None:
    def made() -> Trainee:
        chosen = ModelConfig(backbone="highpass", **options)
        return Trainee(build_model(chosen), replace(CONFIG, model=chosen), world)

    with pytest.raises(UserError, match=message):
        made()


def test_stay_positive_needs_a_trained_head_on_features_that_are_not_negative() -> None:
    with pytest.raises(UserError, match=r"needs model\.train=head, found all"):
        ModelConfig(stay_positive=True)
    with pytest.raises(UserError, match="features that are not negative"):
        ModelConfig(stay_positive=True, train="head", backbone=VIT)


@pytest.mark.parametrize(("train", "crop"), [("all", 32), ("last:1", 48), ("head", 40)])
def test_a_transformer_trains_at_another_crop_and_resumes_to_the_bit(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: str, crop: int
) -> None:
    pytest.importorskip("timm")
    model = ModelConfig(backbone=VIT, train=train, normalize="auto")
    options = {"model": model, "augment": AugmentConfig(crop=crop)}
    run.train(small_config(data, tmp_path / "whole", **options))
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(small_config(data, tmp_path / "parts", **options), stop=stop_at(3, patched))
    run.train(small_config(data, tmp_path / "parts", **options))
    whole, parts = (load_checkpoint(tmp_path / name / "step-00000004.pt") for name in ("whole", "parts"))
    for key in ("model", "optimizer"):
        assert same_bits(whole[key], parts[key]), key
    detector = model_from_checkpoint(load_checkpoint(tmp_path / "whole/best.pt")).eval()
    for size in ((160, 160), (33, 50), (16, 16)):
        assert detector(torch.rand(1, 3, *size)).shape == (1,)


def test_auto_is_the_normalisation_of_the_models_own_weights() -> None:
    pytest.importorskip("timm")
    own = with_own_normalization(ModelConfig(backbone="timm:vit_tiny_patch16_224", normalize="auto"))
    assert own.normalize == "0.5,0.5,0.5/0.5,0.5,0.5"
    kept = ModelConfig(backbone="highpass")
    assert with_own_normalization(kept) is kept
    with pytest.raises(UserError, match=r"auto is for timm models, and the backbone is highpass"):
        with_own_normalization(ModelConfig(backbone="highpass", normalize="auto"))


def test_at_its_own_size_a_transformer_gives_the_bits_of_timm() -> None:
    timm = pytest.importorskip("timm")
    ours = build_model(ModelConfig(backbone=VIT)).eval()
    theirs = timm.create_model("test_vit", num_classes=1).eval()
    theirs.load_state_dict(ours.get_submodule("timm").state_dict())
    x = torch.rand(2, 3, 160, 160)
    assert torch.equal(ours(x), theirs(x).flatten())
