"""First weights: of files and folders, ours and others', with and without a head, and what does not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from scored_images import save_untrained
from torch import Tensor

from recon.base.errors import UserError
from train.detector.export import ExportConfig, export
from train.model.build import build_model
from train.model.config import ModelConfig
from train.model.published.first import first_model

SMALL = "res18nodown"
VIT = "timm:test_vit"

State = dict[str, Tensor]


def weights_file(folder: Path, content: object) -> str:
    path = folder / "weights.pth"
    torch.save(content, path)
    return str(path)


@pytest.fixture(scope="module")
def resnet18_weights() -> dict[str, Tensor]:
    torch.manual_seed(7)
    state = torchvision.models.resnet18().state_dict()
    return {name: torch.rand_like(value) if value.ndim else value for name, value in state.items()}


@pytest.fixture
def published() -> dict[str, Tensor]:
    """Weights of the small network with an ImageNet classifier."""
    state = build_model(ModelConfig(backbone="highpass")).state_dict()
    return state | {"fc.weight": torch.rand(1000, 32), "fc.bias": torch.rand(1000)}


@pytest.mark.parametrize("key", [None, "state_dict"])
def test_imagenet_weights_load_without_their_classifier(
    tmp_path: Path, resnet18_weights: dict[str, Tensor], key: str | None
) -> None:
    path = weights_file(tmp_path, resnet18_weights if key is None else {key: resnet18_weights, "epoch": 3})
    model = first_model(ModelConfig(backbone=SMALL, weights=path))
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], resnet18_weights["layer4.1.conv2.weight"])
    assert model.state_dict()["fc.weight"].shape == (1, 512)


def test_a_detectors_weights_load_with_their_classifier(tmp_path: Path, published: dict[str, Tensor]) -> None:
    head = {"fc.weight": torch.full((1, 32), 0.25), "fc.bias": torch.full((1,), 2.0)}
    saved = {f"module.{name}": value for name, value in (published | head).items()}
    model = first_model(ModelConfig(backbone="highpass", weights=weights_file(tmp_path, {"model": saved})))
    assert torch.equal(model.state_dict()["fc.weight"], head["fc.weight"])
    assert torch.equal(model.state_dict()["fc.bias"], head["fc.bias"])


def test_old_weights_without_step_counters_load(tmp_path: Path, published: dict[str, Tensor]) -> None:
    old = {name: value for name, value in published.items() if "num_batches_tracked" not in name}
    first_model(ModelConfig(backbone="highpass", weights=weights_file(tmp_path, old)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"fc.weight": torch.zeros(1000, 64)}, r"expected fc.weight \(1, 32\), found \(1000, 64\)"),
        ({"fc.weight": torch.zeros(1, 32)}, r"expected fc.bias \(1,\), found \(1000,\)"),
        (
            {"block1.0.weight": torch.zeros(16, 3, 3, 3)},
            r"expected block1.0.weight .*, found \(16, 3, 3, 3\)",
        ),
        ({"block1.0.weight": None}, r"expected block1.0.weight \(16, 6, 3, 3\), found none"),
        ({"head.bias": torch.zeros(4)}, r"found head.bias \(4,\), expected none"),
        ({"fc.weight": "text"}, r"1 of \d+ values are no tensors, such as fc.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, published: dict[str, Tensor], changes: dict[str, Any], complaint: str
) -> None:
    state = {name: value for name, value in (published | changes).items() if value is not None}
    path = weights_file(tmp_path, state)
    with pytest.raises(UserError, match=complaint) as caught:
        first_model(ModelConfig(backbone="highpass", weights=path))
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_architecture_is_refused_by_naming_three_differences(
    tmp_path: Path, published: dict[str, Tensor]
) -> None:
    path = weights_file(tmp_path, published)
    with pytest.raises(UserError, match=r"does not fit res18nodown: expected .* and \d+ more"):
        first_model(ModelConfig(backbone=SMALL, weights=path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_file_that_holds_no_weights_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no whole file of weights") as caught:
        first_model(ModelConfig(backbone="highpass", weights=str(path)))
    assert "\n" not in str(caught.value)


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    path = weights_file(tmp_path, {"model": Path("x")})
    with pytest.raises(UserError, match="holds more than tensors"):
        first_model(ModelConfig(backbone="highpass", weights=path))


def test_missing_weights_are_named() -> None:
    with pytest.raises(UserError, match=r"model\.weights=gone\.pth: no such file"):
        first_model(ModelConfig(backbone="highpass", weights="gone.pth"))


@pytest.fixture(name="vit", scope="module")
def vit_weights() -> State:
    """Random weights of timm's test_vit with timm's names, 1000 outputs and 160x160 inputs."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    return {
        name: torch.randn_like(value) for name, value in timm.create_model("test_vit").state_dict().items()
    }


def fresh(config: ModelConfig) -> State:
    """What the head of a model begins with after this seed."""
    torch.manual_seed(11)
    return dict(first_model(config).state_dict())


HEADS: dict[str, tuple[Callable[[State], State], str]] = {
    "num_classes=0": (lambda state: without_head(state), "holds no head"),
    "imagenet": (lambda state: state, "holds a head of 1000 outputs"),
    "imagenet21k": (
        lambda state: state | {"head.weight": torch.ones(21841, 64), "head.bias": torch.ones(21841)},
        "holds a head of 21841 outputs",
    ),
    "clip": (lambda state: without_head(state) | {"head.weight": torch.ones(512, 64)}, "of 512 outputs"),
}


def without_head(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("head.")}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("form", ["weights.pth", "x.safetensors", "model.safetensors", "pytorch_model.bin"])
def test_a_backbone_of_any_head_gets_a_fresh_one_and_a_line_says_so(
    vit: State, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, form: str
) -> None:
    change, said = HEADS[name]
    state = change(vit)
    (save_file if form.endswith("safetensors") else torch.save)(state, tmp_path / form)  # type: ignore[operator]
    (tmp_path / "config.json").write_text('{"architecture": "test_vit", "num_classes": 0}')
    place = tmp_path if form in ("model.safetensors", "pytorch_model.bin") else tmp_path / form
    with caplog.at_level("INFO"):
        found = fresh(ModelConfig(backbone=VIT, weights=str(place)))
    own = fresh(ModelConfig(backbone=VIT))
    for key, value in found.items():
        expected = own[key] if key.startswith("timm.head.") else state[key.removeprefix("timm.")]
        assert torch.equal(value, expected), key
    assert f"{said}; the detector's begins afresh" in caplog.text
    assert caplog.text.count("\n") == 1


def test_positions_of_another_grid_are_resampled_as_timm_does_and_a_line_says_so(
    vit: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from timm.layers import resample_abs_pos_embed

    torch.save(vit, tmp_path / "x.pth")
    with caplog.at_level("INFO"):
        found = fresh(ModelConfig(backbone=f"{VIT}@96", weights=str(tmp_path / "x.pth")))
    expected = resample_abs_pos_embed(vit["pos_embed"], [6, 6], [10, 10])
    assert torch.equal(found["timm.pos_embed"], expected)
    assert "position embeddings resampled from (1, 101, 64) to (1, 37, 64)" in caplog.text


def test_our_checkpoints_exports_and_folders_of_them_begin_with_their_head(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = save_untrained(tmp_path / "run/best.pt", backbone=VIT)
    expected = torch.load(path, weights_only=True)["model"]
    export(ExportConfig(checkpoint=path, out=str(tmp_path / "export")))
    for place in (path, tmp_path / "run", tmp_path / "export", tmp_path / "export/detector.safetensors"):
        found = fresh(ModelConfig(backbone=VIT, weights=str(place)))
        assert all(torch.equal(found[name], value) for name, value in expected.items()), place


def test_two_outputs_begin_a_detector_only_where_a_config_names_them(vit: State, tmp_path: Path) -> None:
    two = {"head.weight": torch.randn(2, 64), "head.bias": torch.randn(2)}
    save_file(vit | two, tmp_path / "model.safetensors")
    config = {"architecture": "test_vit", "input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.5] * 3}
    own = fresh(ModelConfig(backbone=VIT))["timm.head.weight"]
    difference = two["head.weight"][:1] - two["head.weight"][1:]
    for names, expected in ((["fake", "real"], difference), (["cat", "dog"], own)):
        (tmp_path / "config.json").write_text(json.dumps(config | {"label_names": names}))
        found = fresh(ModelConfig(backbone=VIT, weights=str(tmp_path)))
        assert torch.equal(found["timm.head.weight"], expected)


def test_what_is_no_backbone_of_this_name_is_refused_with_its_differences(vit: State, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    cases: list[tuple[State, str]] = [
        (
            vit | {"head.weight": torch.ones(1000, 65)},
            r"timm.head.weight \(1, 64\), found \(1000, 65\)",
        ),
        (
            without_head(vit) | {"blocks.9.norm1.weight": torch.ones(64)},
            r"found blocks.9.norm1.weight",
        ),
        (
            {name: vit[name] for name in vit if "norm1" not in name},
            r"expected timm.blocks.0.norm1",
        ),
        (
            vit | {"blocks.0.attn.qkv.lora_A": torch.ones(2, 2)},
            r"train.export --checkpoint .*lora_alpha",
        ),
        (vit | {"pos_embed": torch.ones(7)}, r"timm can't read it as its VisionTransformer"),
    ]
    for state, complaint in cases:
        torch.save(state, path)
        with pytest.raises(UserError, match=complaint) as refusal:
            first_model(ModelConfig(backbone=VIT, weights=str(path)))
        assert "\n" not in str(refusal.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is a folder without detector.safetensors, model.safetensors"):
        first_model(ModelConfig(backbone=VIT, weights=str(tmp_path / "empty")))
