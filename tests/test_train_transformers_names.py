"""Vision transformers of transformers: their files begin a timm model that has the same features."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from recon.base.errors import UserError
from train.model.config import ModelConfig
from train.model.published import first
from train.model.published.first import first_model
from train.model.published.transformers_names import timm_tensors

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
SIZE |= {"image_size": 32, "patch_size": 8}
REGS = {"num_register_tokens": 4, "layerscale_value": 0.5}
MLP = {"intermediate_size": 192}
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 1}
EVA = {
    "qkv_bias": True, "init_values": 1e-5, "rope_type": "dinov3", "rope_temperature": 100,
    "rope_rotate_half": True, "use_rot_pos_emb": True, "use_abs_pos_emb": False, "num_reg_tokens": 4,
    "use_fc_norm": False, "global_pool": "token",
}  # fmt: skip


def vit(**more: Any) -> nn.Module:
    made: nn.Module = timm.models.VisionTransformer(**TINY, **more)
    return made


def eva(**more: Any) -> nn.Module:
    norm = partial(nn.LayerNorm, eps=1e-5)
    made: nn.Module = timm.models.Eva(**TINY, norm_layer=norm, **(EVA | more))
    return made


CASES: dict[str, tuple[Callable[[], Any], Callable[[], nn.Module]]] = {
    "vit": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**SIZE, **MLP)),
        vit,
    ),
    "dinov2": (
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**SIZE, layerscale_value=0.5)),
        lambda: vit(init_values=1e-5),
    ),
    "dinov2 with registers": (
        lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**SIZE, **REGS)
        ),
        lambda: vit(init_values=1e-5, reg_tokens=4, no_embed_class=True),
    ),
    "clip": (
        lambda: transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**SIZE, **MLP, projection_dim=20)
        ),
        lambda: vit(
            pre_norm=True, norm_layer=nn.LayerNorm, act_layer="quick_gelu",
        ),
    ),
    "dinov3": (
        lambda: transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**SIZE, **MLP, **REGS)
        ),
        eva,
    ),
    "dinov3 gated": (
        lambda: transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(
                **SIZE, **MLP, **REGS, use_gated_mlp=True, hidden_act="silu"
            )
        ),
        lambda: eva(swiglu_mlp=True, swiglu_align_to=8, mlp_ratio=4),
    ),
}  # fmt: skip


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
def test_the_class_token_of_a_file_is_that_of_transformers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = randomised(CASES[name][0]())
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    ours = nn.Sequential()
    ours.add_module("timm", CASES[name][1]())
    monkeypatch.setattr(first, "build_model", lambda _config: ours)
    with caplog.at_level("INFO"):
        first_model(ModelConfig(backbone="timm:tiny", weights=str(tmp_path)))
    x_N3HW = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = ours.eval().get_submodule("timm").forward_features(x_N3HW)[:, 0]  # type: ignore[operator]
        said: Any = theirs(x_N3HW)
    if name == "clip":
        found, expected = nn.functional.linear(found, theirs.visual_projection.weight), said.image_embeds  # type: ignore[arg-type]
    else:
        expected = said.last_hidden_state[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert f"{'a head of 20 outputs' if name == 'clip' else 'no head'}; the detector's begins" in caplog.text


def test_biases_that_a_model_does_not_have_must_be_0(tmp_path: Path) -> None:
    """As in timm's DINOv3 without ``qkvb``, and Meta's weights."""
    theirs = randomised(CASES["dinov3"][0]())
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    state = load_file(tmp_path / "model.safetensors")
    own = eva(qkv_bias=False).state_dict()
    assert "blocks.0.attn.qkv.bias" in timm_tensors(state, own, "x")
    zeros = {name: value * 0 if "_proj.bias" in name else value for name, value in state.items()}
    assert "blocks.0.attn.qkv.bias" not in timm_tensors(zeros, own, "x")


def test_half_an_attention_is_refused() -> None:
    parts = {
        "embeddings.cls_token": torch.zeros(1, 1, 4),
        "layer.0.attention.q_proj.weight": torch.zeros(4, 4),
    }
    with pytest.raises(
        UserError, match=r"x: expected query, key and value of blocks.0.attn.qkv.weight, found no k"
    ):
        timm_tensors(parts, {}, "x")
