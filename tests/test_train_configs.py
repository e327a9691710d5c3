"""Every recipe of a run in configs/: three steps with a small network in place of its own, and its point."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from train_data import make_sets

from recon.base.cli import parse
from train.draws.config import RECIPES
from train.loader.transfer import Batch
from train.loop import run
from train.loop.build import build_loaders, training_loader
from train.loop.config import TrainConfig
from train.loop.trainee import StepResult, Trainee
from train.model.backbones import TIMM, classifier_of
from train.model.build import build_model, model_from_checkpoint
from train.model.checkpoint import load_checkpoint, pack_checkpoint
from train.model.config import ModelConfig
from train.model.features import WithFeatures
from train.model.lora import add_lora, lora_layers
from train.model.normalize import normalize
from train.model.trained import freeze
from train.world.world import open_world

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
PAIRS, STEPS, CROP = 4, 3, 32
SMALL = (
    f"--device cpu --threads 1 --precision float32 --epochs 1 --data.workers 0 --data.threads 1 "
    f"--data.val_batch 2 --data.val_crop {CROP} --augment.crop {CROP} --order.global_batch {PAIRS} "
    f"--order.lanes {PAIRS} --order.block 2 --log_every 1 --optim.bn_batches 2"
).split()


def recipe(name: str, *argv: str) -> TrainConfig:
    """A recipe as the command reads it."""
    words = [
        "--config",
        str(CONFIGS / f"{name}.yaml"),
        "--out",
        "run",
        "--data.train",
        "a",
        "--data.val",
        "b",
    ]
    return parse(TrainConfig, [*words, *argv], prog="x", about="", recipes={"augment": RECIPES})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_sets(tmp_path_factory.mktemp("data"), pairs=PAIRS * STEPS, size=(48, 40), val_size=(40, 56))


@dataclass
class Ran:
    """A run of a recipe: its options, the state before and after, and what each step saw and gave."""

    config: TrainConfig
    before: dict[str, Tensor]
    module: nn.Module
    steps: list[tuple[Batch, StepResult]]

    @property
    def changed(self) -> set[str]:
        after = self.module.state_dict()
        return {name for name in self.before if not torch.equal(self.before[name], after[name])}


def ran(name: str, data: dict[str, str], out: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Runs three steps of a recipe and a validation; without its weights, and with a small backbone."""
    model = recipe(name).model
    backbone = f"{TIMM}test_vit" if model.backbone.startswith(TIMM) else "highpass"
    words = [*SMALL, "--out", str(out), "--data.train", data["train"], "--data.val", data["val"]]
    words += ["--model.backbone", backbone, "--model.weights", "null"]
    if model.weights not in (None, "imagenet"):
        words[-1] = detector_file(backbone, out.parent / "first.pt")
    config = recipe(name, *words)
    trainees: list[Trainee] = []
    states: list[dict[str, Tensor]] = []
    steps: list[tuple[Batch, StepResult]] = []
    original = Trainee.step

    def step(self: Trainee, batch: Batch, number: int, **more: Any) -> StepResult:
        if not trainees:
            trainees.append(self)
            states.append({name: value.clone() for name, value in self.module.state_dict().items()})
        result = original(self, batch, number, **more)
        steps.append((batch, result))
        return result

    monkeypatch.setattr(Trainee, "step", step)
    run.train(config)
    return Ran(config, states[0], trainees[0].module, steps)


def detector_file(backbone: str, path: Path) -> str:
    """A detector of a run that has ended: its norms know statistics, and its head has a sign."""
    torch.manual_seed(5)
    model = build_model(ModelConfig(backbone=backbone))
    for _ in range(4):
        model(normalize(torch.randint(0, 256, (8, 3, CROP, CROP), dtype=torch.uint8)))
    config = {"model": {"backbone": backbone, "normalize": "resnet"}}
    path.write_bytes(pack_checkpoint({"config": config, "model": model.state_dict()}))
    return str(path)


def only_the_head_changed(one: Ran) -> None:
    head = classifier_of(one.module)
    assert one.changed == {f"{head}.weight", f"{head}.bias"}


def features_of(model: nn.Module, config: TrainConfig) -> Tensor:
    """What the last layer gets of every image, of training (augmented) and of validation."""
    both: Any = WithFeatures(model.eval())
    with open_world("cpu") as world, torch.no_grad():
        loaders = [training_loader(config, world), *build_loaders(config, world)[1].values()]
        batches: Iterator[Batch] = (batch for loader in loaders for batch in loader)
        return torch.cat([both(normalize(batch.valid.flatten(0, 1)))[1] for batch in batches])


def nothing_speaks_for_real(one: Ran) -> None:
    only_the_head_changed(one)  # bitwise, so that BatchNorm's buffers have not moved either
    assert [name for name in one.before if name.endswith("running_var")]
    head = classifier_of(one.module)
    assert not one.before[f"{head}.weight"].any()
    saved = model_from_checkpoint(load_checkpoint(f"{one.config.out}/best.pt"))
    weight = saved.get_parameter(f"{head}.weight")
    assert bool((weight > 0).any())
    feature_ND = features_of(saved, one.config)
    assert len(feature_ND) == 2 * (PAIRS * STEPS + 3)
    assert bool((feature_ND * weight >= 0).all())


def factors_changed_in_three_views(one: Ran) -> None:
    assert {len(batch.images) for batch, _ in one.steps} == {3 * PAIRS}
    head = classifier_of(one.module)
    factors = {f"{name}.lora_{end}.default.weight" for name in lora_layers(one.module) for end in "AB"}
    assert len(factors) > 40
    assert one.changed == factors | {f"{head}.weight", f"{head}.bias"}
    assert (one.config.loss.bce, one.config.loss.drct) == (0.5, 0.5)


def the_whole_network_changed(one: Ran) -> None:
    assert one.changed == {name for name, _ in one.module.named_parameters()}


def features_are_pushed_apart(one: Ran) -> None:
    the_whole_network_changed(one)
    assert (one.config.loss.bce, one.config.loss.drct) == (0.7, 0.3)


def images_are_degraded(one: Ran) -> None:
    assert len(one.config.augment.chains) == 11


POINTS: dict[str, Callable[[Ran], None]] = {
    "stay-positive": nothing_speaks_for_real,
    "dda": factors_changed_in_three_views,
    "b-free": the_whole_network_changed,
    "drct": features_are_pushed_apart,
    "probe": only_the_head_changed,
    "wild": images_are_degraded,
}
"""What a recipe is about, beside training at all."""


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_three_steps_and_does_what_it_is_about(
    name: str, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recipe(name).model
    for needed in ("timm",) * model.backbone.startswith(TIMM) + ("peft",) * (model.train == "lora"):
        pytest.importorskip(needed)
    one = ran(name, data, tmp_path / "run", monkeypatch)
    assert [bool(result.applied) for _, result in one.steps] == [True] * STEPS
    assert all(value.isfinite().all() for value in one.module.state_dict().values())
    assert one.changed
    last = load_checkpoint(tmp_path / f"run/step-{STEPS:08}.pt")
    assert (last["step"], last["nonfinite"], last["val"] is None) == (STEPS, 0, False)
    if name in POINTS:
        POINTS[name](one)


def test_the_points_are_those_of_recipes() -> None:
    assert set(POINTS) <= set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if TIMM in (CONFIGS / f"{name}.yaml").read_text()])
def test_a_recipe_s_own_network_takes_its_crops_and_trains_what_it_says(name: str) -> None:
    config = recipe(name)
    pytest.importorskip("timm")
    with torch.device("meta"), torch.no_grad():  # shapes alone: no memory, and no arithmetic
        model = build_model(replace(config.model, weights=None, normalize="resnet"))
        if config.model.train == "lora":
            pytest.importorskip("peft")
            add_lora(model, config.model)
        freeze(model.eval(), config.model.train)
        for side in (config.augment.crop, config.data.val_crop):
            assert model(torch.empty(1, 3, side, side)).shape == (1,)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_s_head_names_its_command_and_what_is_known(name: str) -> None:
    lines = (CONFIGS / f"{name}.yaml").read_text("utf-8").splitlines(keepends=True)
    head = "".join(line for line in lines if line.startswith("# "))
    assert f"--config configs/{name}.yaml" in head
    if name not in ("cpu", "demo"):  # these say what to expect in their own words
        assert "# Hardware: " in head
        assert "# Known: " in head
        assert "# Paper: " in head or "# Source: ours" in head
