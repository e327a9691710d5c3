"""The detectors: torchvision's names, full resolution, any size, and weights that fit or are refused."""

import sys
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from recon.base.errors import UserError
from train.model.backbones import BACKBONES
from train.model.build import build_model, model_from_checkpoint
from train.model.config import ModelConfig
from train.model.features import WithFeatures
from train.model.normalize import normalize

SMALL = "res18nodown"


def imagenet_like(model: nn.Module) -> dict[str, Tensor]:
    """What torchvision publishes for an architecture: the same names, 1000 classes."""
    torch.manual_seed(7)
    return {
        name: torch.rand_like(value) if value.ndim else value for name, value in model.state_dict().items()
    }


@pytest.fixture(scope="module")
def resnet18_weights() -> dict[str, Tensor]:
    return imagenet_like(torchvision.models.resnet18())


@pytest.mark.parametrize(
    ("backbone", "original", "features"),
    [("res50nodown", "resnet50", 2048), ("res18nodown", "resnet18", 512)],
)
def test_names_and_shapes_are_torchvisions(backbone: str, original: str, features: int) -> None:
    with torch.device("meta"):
        ours = build_model(ModelConfig(backbone=backbone)).state_dict()
        theirs = getattr(torchvision.models, original)().state_dict()
    assert list(ours) == list(theirs)
    assert ours["fc.weight"].shape == (1, features)
    assert all(ours[name].shape == theirs[name].shape for name in ours if not name.startswith("fc."))


def test_the_stem_does_not_reduce_the_resolution() -> None:
    model = build_model(ModelConfig(backbone=SMALL)).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for name in ("maxpool", "layer1", "layer4"):
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: tuple(output.shape[2:])})
        )
    model(torch.zeros(1, 3, 48, 40))
    assert seen == {"maxpool": (48, 40), "layer1": (48, 40), "layer4": (6, 5)}


@pytest.mark.parametrize(
    ("backbone", "height", "width"),
    [
        ("res18nodown", 17, 31),
        ("highpass", 8, 8),
        ("highpass", 17, 31),
        ("highpass", 64, 9),
        ("highpass", 1, 2),
    ],
)
def test_any_size_gives_one_logit_an_image(backbone: str, height: int, width: int) -> None:
    model = build_model(ModelConfig(backbone=backbone)).eval()
    logits_B = model(torch.randn(2, 3, height, width))
    assert logits_B.shape == (2,)
    assert logits_B.isfinite().all()


def test_res50nodown_scores_an_odd_size() -> None:
    model = build_model(ModelConfig()).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 33, 21)).shape == (1,)


def test_highpass_is_small_and_blind_to_brightness() -> None:
    model = build_model(ModelConfig(backbone="highpass")).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) < 100_000
    x_B3HW = torch.randint(40, 200, (2, 3, 40, 40), dtype=torch.uint8)
    torch.testing.assert_close(model(normalize(x_B3HW)), model(normalize(x_B3HW + 20)), rtol=0, atol=1e-4)


def test_highpass_keeps_its_residual_exact_under_autocast() -> None:
    residual = build_model(ModelConfig(backbone="highpass")).get_submodule("residual")
    x_B3HW = normalize(torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = residual(x_B3HW)
    assert torch.equal(mixed, residual(x_B3HW))


def test_normalize_equals_torchvisions() -> None:
    x_B3HW = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    expected = torchvision.transforms.functional.normalize(
        x_B3HW.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(normalize(x_B3HW), expected, rtol=0, atol=1e-6)


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise URLError("no route\nto host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", refuse)
    with pytest.raises(UserError, match=r"can't be fetched from https://.*model\.weights=FILE") as caught:
        build_model(ModelConfig(backbone=SMALL, weights="imagenet"))
    assert "\n" not in str(caught.value)


def test_imagenet_weights_load_by_name(
    monkeypatch: pytest.MonkeyPatch, resnet18_weights: dict[str, Tensor]
) -> None:
    published = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(published, "get_state_dict", lambda *_args, **_options: resnet18_weights)
    model = build_model(ModelConfig(backbone=SMALL, weights="imagenet"))
    assert torch.equal(model.state_dict()["conv1.weight"], resnet18_weights["conv1.weight"])


def test_highpass_has_no_imagenet_weights() -> None:
    with pytest.raises(UserError, match="expected one of res50nodown, res18nodown"):
        build_model(ModelConfig(backbone="highpass", weights="imagenet"))


def test_an_unknown_backbone_lists_the_choices() -> None:
    with pytest.raises(UserError, match=rf"'resnet'.*{', '.join(BACKBONES)}, timm:NAME"):
        build_model(ModelConfig(backbone="resnet"))


def test_timm_builds_models_and_suggests_names() -> None:
    pytest.importorskip("timm")
    model = build_model(ModelConfig(backbone="timm:test_convnext")).eval()
    assert model(torch.randn(2, 3, 40, 40)).shape == (2,)
    with pytest.raises(UserError, match=r"no model 'resnet_18'; close: .*resnet"):
        build_model(ModelConfig(backbone="timm:resnet_18"))


@pytest.mark.parametrize("backbone", ["res18nodown", "highpass", "timm:test_vit", "timm:test_convnext"])
def test_dropout_is_the_share_of_features_that_the_last_layer_misses(backbone: str) -> None:
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")
    x_BCHW = torch.rand(8, 3, 32, 32)
    for share in (0.0, 0.75):
        torch.manual_seed(3)
        model = WithFeatures(build_model(ModelConfig(backbone=backbone, dropout=share)))
        _, feature_BD = model(x_BCHW)
        assert (feature_BD == 0).double().mean().item() == pytest.approx(share, abs=0.1)
    with pytest.raises(UserError, match=r"model\.dropout=1\.0, expected 0 <= dropout < 1"):
        ModelConfig(dropout=1.0)


def test_a_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[timm\]'"):
        build_model(ModelConfig(backbone="timm:resnet18"))


def checkpoint_of(backbone: str) -> dict[str, Any]:
    torch.manual_seed(1)
    state = build_model(ModelConfig(backbone=backbone)).state_dict()
    return {"config": {"model": {"backbone": backbone, "weights": "gone.pth"}}, "model": state}


def test_a_checkpoint_gives_its_model_back() -> None:
    checkpoint = checkpoint_of("highpass")
    model = model_from_checkpoint(checkpoint)
    state = model.state_dict()
    assert list(state) == list(checkpoint["model"])
    assert all(torch.equal(state[name], value) for name, value in checkpoint["model"].items())


def test_a_checkpoint_of_another_model_is_refused() -> None:
    checkpoint = checkpoint_of("highpass")
    checkpoint["config"]["model"]["backbone"] = SMALL
    with pytest.raises(
        UserError, match="checkpoint of another model than its backbone res18nodown: expected"
    ):
        model_from_checkpoint(checkpoint)


def test_a_checkpoint_without_a_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"not a checkpoint of a training run.*found no 'model'"):
        model_from_checkpoint({"config": {}})


def test_an_imagenet_classifier_is_no_detector(resnet18_weights: dict[str, Tensor]) -> None:
    checkpoint = {"config": {"model": {"backbone": SMALL}}, "model": resnet18_weights}
    with pytest.raises(UserError, match=r"fc\.weight \(1, 512\), found \(1000, 512\)"):
        model_from_checkpoint(checkpoint)
