"""LoRA: what it changes and trains, merged weights that score the same, and layers that it can't change."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from train_data import make_dataset
from train_ranks import CONFIG, random_batch
from train_runs import same_bits, small_config, stop_at

from recon.base.errors import UserError
from train.detector.detector import Detector
from train.draws.config import AugmentConfig
from train.loop import run
from train.loop.build import seeded_model
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import Trainee
from train.model.build import build_model
from train.model.checkpoint import load_checkpoint
from train.model.config import ModelConfig
from train.model.lora import lora_layers, merged, plain_state
from train.optim.config import OptimConfig
from train.world.stop import Preempted
from train.world.world import World, open_world

pytest.importorskip("peft")
pytest.importorskip("timm")

VIT = ModelConfig(backbone="timm:test_vit", train="lora", lora_alpha=16.0)
RESNET = ModelConfig(
    backbone="timm:test_resnet", train="lora", lora_targets=["conv2", "conv1.3"], lora_rank=2
)
BOTH = pytest.mark.parametrize("model", [VIT, RESNET], ids=["vit", "resnet"])


@pytest.fixture
def world() -> Iterator[World]:
    with open_world("cpu") as world:
        yield world


def config_of(model: ModelConfig, **optim: Any) -> TrainConfig:
    return replace(CONFIG, model=model, optim=OptimConfig(lr=0.05, **optim), augment=AugmentConfig(crop=32))


def made(config: TrainConfig) -> nn.Module:
    """A detector none of whose branches is cut: timm begins some with a norm of scale 0."""
    model = seeded_model(config, resumed=False)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
    return model


def trained(model: ModelConfig, world: World, **optim: Any) -> Trainee:
    """A detector after three steps, in which all of its factors have moved."""
    config = config_of(model, **optim)
    one = Trainee(made(config), config, world)
    for step in range(3):
        assert one.step(random_batch(4, seed=step), step).applied
    return one


@BOTH
def test_only_the_factors_and_the_head_change_and_no_statistics(world: World, model: ModelConfig) -> None:
    config = config_of(model)
    before = made(config).state_dict()
    one = trained(model, world)
    one.estimate_statistics([random_batch(4, seed=9).images])
    after = one.module.state_dict()
    found = {name for name in before if not torch.equal(before[name], after[name])}
    head = {f"timm.{'head' if model is VIT else 'fc'}.{end}" for end in ("weight", "bias")}
    factors = {f"{name}.lora_{one}.default.weight" for name in lora_layers(one.module) for one in "AB"}
    assert found == head | factors
    assert len(factors) == 2 * (24 if model is VIT else 5)
    modes = {layer.training for layer in one.module.modules() if isinstance(layer, nn.BatchNorm2d)}
    assert modes <= {False}


@BOTH
def test_before_the_first_step_no_logit_has_changed(model: ModelConfig) -> None:
    torch.manual_seed(0)
    changed = made(config_of(model)).eval()
    plain = build_model(replace(model, train="all", **UNTOUCHED))
    plain.load_state_dict(plain_state(changed))
    x_N3HW = torch.rand(2, 3, 32, 32)
    assert torch.equal(changed(x_N3HW), plain.eval()(x_N3HW))


UNTOUCHED: dict[str, Any] = {
    name: getattr(ModelConfig(), name) for name in ("lora_rank", "lora_alpha", "lora_targets")
}


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_merged_logits_are_the_unmerged_ones_up_to_rounding_and_the_weights_come_back(
    world: World, model: ModelConfig, dtype: torch.dtype, tolerance: float
) -> None:
    module = trained(model, world).module.to(dtype).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x_N3HW = torch.rand(4, 3, 32, 32, dtype=dtype)
    with torch.no_grad():
        apart = module(x_N3HW)
        with merged(module):
            together = module(x_N3HW)
        with pytest.raises(KeyboardInterrupt), merged(module):
            raise KeyboardInterrupt
    scale = float(apart.abs().max())
    assert float((together - apart).abs().max()) <= tolerance * max(1.0, scale)
    assert not torch.equal(apart, torch.zeros_like(apart))
    assert same_bits(dict(module.state_dict()), before)
    assert torch.equal(module(x_N3HW), apart)


@BOTH
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_what_is_saved_is_a_plain_detector_that_validates_the_same_to_the_bit(
    world: World, model: ModelConfig, ema: float
) -> None:
    one = trained(model, world, ema=ema)
    batches = [random_batch(4, seed=20), random_batch(4, seed=21, valid=3)]
    summary = one.validate(batches)
    plain = replace(model, train="all", **UNTOUCHED)
    saved = one.weights()["model"]
    other = build_model(plain)
    assert list(other.state_dict()) == list(saved)
    other.load_state_dict(saved)
    assert Trainee(other, replace(config_of(plain)), world).validate(batches) == summary


def test_the_factors_begin_with_the_runs_seed() -> None:
    def first(seed: int) -> dict[str, torch.Tensor]:
        config = config_of(VIT)
        config = replace(config, order=replace(config.order, seed=seed))
        torch.manual_seed(seed + 100)  # the caller's random state is of no matter
        return dict(seeded_model(config, resumed=seed == 1).state_dict())

    assert same_bits(first(1), first(1))
    assert not torch.equal(*(first(seed)["timm.blocks.0.attn.qkv.lora_A.default.weight"] for seed in (1, 2)))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (
            replace(VIT, lora_targets=["attn.qkv", "qk"]),
            r"qk ends the name of no .* of patch_embed.proj, attn.qkv, attn.proj, mlp.fc1, mlp.fc2$",
        ),
        (replace(VIT, lora_targets=["head"]), r"head ends the name of no linear .* but its head"),
        (replace(VIT, backbone="timm:test_convnext"), r"attn.qkv ends the name of no linear"),
        (
            replace(VIT, backbone="timm:test_convnext", lora_targets=["conv_dw"]),
            r"timm.stages.0.blocks.0.conv_dw is a convolution with groups",
        ),
        (
            replace(VIT, backbone="timm:vit_tiny_patch16_dinov3_qkvb"),
            r"no effect on timm.blocks.0.attn.qkv, one of 12 layers whose weights",
        ),
    ],
    ids=["a word", "head", "none", "groups", "uncalled"],
)
def test_layers_that_lora_can_not_change_are_refused(model: ModelConfig, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        seeded_model(config_of(model), resumed=False)
    assert "\n" not in str(refusal.value)


def test_crops_that_a_model_does_not_take_are_refused_before_any_pair_is_read() -> None:
    model = ModelConfig(backbone="timm:test_vit_relpos")
    config = TrainConfig(
        out="unused",
        data=DataConfig(train="unused", val="unused", val_crop=64),
        model=model,
        augment=AugmentConfig(crop=160),
    )
    with pytest.raises(UserError, match=r"can't take crops of 64x64 pixels: .*; choose another augment.crop"):
        seeded_model(config, resumed=False)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lora_rank": 4}, r"model.lora_rank=4 would be ignored: model.train is all"),
        ({"lora_targets": ["fc"], "train": "head"}, r"model.lora_targets=\['fc'\] would be ignored"),
        ({"train": "lora", "lora_rank": 0}, "model.lora_rank=0, expected at least 1"),
        ({"train": "lora", "lora_alpha": 0.0}, "model.lora_alpha=0.0, expected more than 0"),
        ({"train": "lora", "lora_targets": []}, "model.lora_targets names no layer"),
        ({"train": "lora", "stay_positive": True}, "needs model.train=head, found lora"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        ModelConfig(**options)


def test_without_peft_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[lora\]'"):
        seeded_model(config_of(VIT), resumed=False)


def test_a_run_resumes_to_the_bit_and_its_best_is_read_without_peft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {
        "train": make_dataset(tmp_path / "train", pairs=16, shard_pairs=8, size=(48, 48)),
        "val": make_dataset(tmp_path / "val", pairs=3, shard_pairs=4, size=(48, 48), start=500),
    }
    optim = OptimConfig(lr=0.01, ema=0.5, accumulate=2, layer_decay=0.8, optimizer="adamw", weight_decay=0.1)
    options = {"model": VIT, "optim": optim, "precision": "bfloat16", "augment": AugmentConfig(crop=40)}
    run.train(small_config(data, tmp_path / "whole", **options))
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        run.train(small_config(data, tmp_path / "parts", **options), stop=stop_at(3, patched))
    run.train(small_config(data, tmp_path / "parts", **options))
    whole, parts = (load_checkpoint(tmp_path / name / "step-00000004.pt") for name in ("whole", "parts"))
    for key in ("model", "trained", "adapted", "optimizer", "val"):
        assert same_bits(whole[key], parts[key]), key
    with pytest.raises(UserError, match=r"model.lora_rank was 8 when the run"):
        run.train(small_config(data, tmp_path / "parts", **options | {"model": replace(VIT, lora_rank=4)}))
    monkeypatch.setitem(sys.modules, "peft", None)
    best = load_checkpoint(tmp_path / "whole/best.pt")
    assert set(best) == {"format", "config", "model", "epoch", "step", "val"}
    assert not [name for name in best["model"] if "lora" in name or "base_layer" in name]
    Detector.load(tmp_path / "whole/best.pt", device="cpu")
    again = ModelConfig(backbone=VIT.backbone, weights=str(tmp_path / "whole/best.pt"))
    found = seeded_model(config_of(again), resumed=False).state_dict()
    assert same_bits(dict(found), best["model"])
