"""Tiny random models of every class in `recon.models.adapters.ADAPTERS`.

They are a few channels wide, but have as many stages as the published ones: so factor and channels of the
code are those of the published weights, which README's table names.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A tiny model, and how its class is called by hand."""

    model_class: str
    factor: int
    channels: int
    """Channels of the code."""
    settings: dict[str, Any]
    film: bool = False
    """Whether an image is given as a film of one frame."""
    alpha: bool = False
    """Whether an opaque alpha is given with an image."""
    decode: dict[str, Any] = field(default_factory=dict)
    """Further arguments of decode, for one image."""


def _kl(*widths: int, **settings: Any) -> dict[str, Any]:
    names = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    blocks = {name: value * len(widths) for name, value in names.items()}
    return {"block_out_channels": widths, "norm_num_groups": 4, **blocks, **settings}


_EIGHT = (8,) * 4
_FOUR = (4,) * 4
_FILM = {"block_out_channels": _FOUR, "layers_per_block": 1, "norm_num_groups": 2}
_CODERS = {"encoder_block_out_channels": _EIGHT, "decoder_block_out_channels": _EIGHT}
_TINY = _CODERS | {"num_encoder_blocks": (1,) * 4, "num_decoder_blocks": (1,) * 4}
_WAN = {"base_dim": 4, "num_res_blocks": 1}
_HUNYUAN = {"block_out_channels": (4, 4, 4, 16, 64), "layers_per_block": 1}
_DC = {
    name: value
    for part in ("encoder", "decoder")
    for name, value in {
        f"{part}_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
        f"{part}_block_out_channels": (8, 8, 8, 16, 16, 32),
        f"{part}_layers_per_block": (1,) * 6,
    }.items()
}
_LTX = {
    "block_out_channels": _EIGHT,
    "decoder_block_out_channels": _EIGHT,
    "layers_per_block": (1,) * 5,
    "decoder_layers_per_block": (1,) * 5,
}
_RAE = {
    "encoder_hidden_size": 768,
    "encoder_num_hidden_layers": 1,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}

INSTANCES: dict[str, Instance] = {
    "kl-4": Instance(model_class="AutoencoderKL", factor=8, channels=4, settings=_kl(*_EIGHT)),
    "kl-16": Instance(
        model_class="AutoencoderKL",
        factor=8,
        channels=16,
        settings=_kl(*_EIGHT, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
    ),
    "flux2": Instance(
        model_class="AutoencoderKLFlux2",
        factor=8,
        channels=32,
        settings=_kl(*_EIGHT, layers_per_block=1),
    ),
    "tiny-4": Instance(model_class="AutoencoderTiny", factor=8, channels=4, settings=_TINY),
    "tiny-16": Instance(
        model_class="AutoencoderTiny", factor=8, channels=16, settings=_TINY | {"latent_channels": 16}
    ),
    "vq": Instance(model_class="VQModel", factor=4, channels=3, settings=_kl(8, 8, 8, num_vq_embeddings=16)),
    "movq": Instance(
        model_class="VQModel",
        factor=8,
        channels=4,
        settings=_kl(
            32, 32, 32, 32, latent_channels=4, num_vq_embeddings=16, norm_type="spatial", layers_per_block=0
        ),
        decode={"force_not_quantize": True},
    ),
    "asymmetric": Instance(
        model_class="AsymmetricAutoencoderKL",
        factor=8,
        channels=4,
        settings={
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "down_block_out_channels": _EIGHT,
            "up_block_out_channels": _EIGHT,
            "norm_num_groups": 4,
        },
    ),
    "consistency": Instance(
        model_class="ConsistencyDecoderVAE",
        factor=8,
        channels=4,
        settings={
            **_CODERS,
            "encoder_layers_per_block": 1,
            "encoder_norm_num_groups": 4,
            "decoder_layers_per_block": 1,
            "decoder_norm_num_groups": 4,
        },
    ),
    "svd": Instance(
        model_class="AutoencoderKLTemporalDecoder",
        factor=8,
        channels=4,
        settings={
            "block_out_channels": (32,) * 4,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
        },
        decode={"num_frames": 1},
    ),
    "dc": Instance(
        model_class="AutoencoderDC", factor=32, channels=32, settings=_DC | {"attention_head_dim": 4}
    ),
    "rae": Instance(model_class="AutoencoderRAE", factor=16, channels=768, settings=_RAE),
    "hunyuan-image": Instance(
        model_class="AutoencoderKLHunyuanImage",
        factor=32,
        channels=64,
        settings={
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 64,
            "block_out_channels": (32, 32, 32, 32, 32, 128),
            "layers_per_block": 1,
            "spatial_compression_ratio": 32,
            "sample_size": 384,
        },
    ),
    "hunyuan-refiner": Instance(
        model_class="AutoencoderKLHunyuanImageRefiner",
        factor=16,
        channels=32,
        settings=_HUNYUAN,
        film=True,
    ),
    "hunyuan-video": Instance(
        model_class="AutoencoderKLHunyuanVideo",
        factor=8,
        channels=16,
        settings=_FILM,
        film=True,
    ),
    "hunyuan-15": Instance(
        model_class="AutoencoderKLHunyuanVideo15",
        factor=16,
        channels=32,
        settings=_HUNYUAN,
        film=True,
    ),
    "kvae": Instance(
        model_class="AutoencoderKLKVAE",
        factor=8,
        channels=16,
        settings={"channels": 32, "ch_mult": (1,) * 4, "num_enc_blocks": 1, "num_dec_blocks": 0},
    ),
    "kvae-video": Instance(
        model_class="AutoencoderKLKVAEVideo",
        factor=8,
        channels=16,
        settings={"ch": 32, "ch_mult": (1,) * 4, "num_res_blocks": 0},
        film=True,
    ),
    "qwen": Instance(
        model_class="AutoencoderKLQwenImage",
        factor=8,
        channels=16,
        settings=_WAN | {"dim_mult": [1] * 4},
        film=True,
    ),
    "qwen-layered": Instance(
        model_class="AutoencoderKLQwenImage",
        factor=8,
        channels=16,
        settings=_WAN | {"dim_mult": [1] * 4, "input_channels": 4},
        film=True,
        alpha=True,
    ),
    "qwen21": Instance(
        model_class="AutoencoderKLQwenImage21",
        factor=16,
        channels=64,
        settings=_WAN | {"decoder_base_dim": 4, "dim_mult": [1] * 5},
        film=True,
        alpha=True,
    ),
    "wan21": Instance(
        model_class="AutoencoderKLWan",
        factor=8,
        channels=16,
        settings=_WAN | {"dim_mult": [1] * 4},
        film=True,
    ),
    "wan22": Instance(
        model_class="AutoencoderKLWan",
        factor=16,
        channels=48,
        settings=_WAN
        | {"dim_mult": [1] * 4, "z_dim": 48, "patch_size": 2, "is_residual": True}
        | {"in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16},
        film=True,
    ),
    "cogvideox": Instance(
        model_class="AutoencoderKLCogVideoX",
        factor=8,
        channels=16,
        settings=_FILM,
        film=True,
    ),
    "cosmos": Instance(
        model_class="AutoencoderKLCosmos",
        factor=8,
        channels=16,
        settings={
            "encoder_block_out_channels": _EIGHT,
            "decode_block_out_channels": _EIGHT,
            "num_layers": 1,
        },
        film=True,
    ),
    "ltx": Instance(
        model_class="AutoencoderKLLTXVideo",
        factor=32,
        channels=128,
        settings=_LTX,
        film=True,
    ),
    "ltx-095": Instance(
        model_class="AutoencoderKLLTXVideo",
        factor=32,
        channels=128,
        settings=_LTX | {"timestep_conditioning": True, "decoder_inject_noise": (True,) * 5},
        film=True,
        decode={"temb": torch.zeros(1)},
    ),
    "ltx2": Instance(
        model_class="AutoencoderKLLTX2Video",
        factor=32,
        channels=128,
        settings={
            "block_out_channels": (8, 8, 16, 32),
            "decoder_block_out_channels": (8, 16, 32),
            "layers_per_block": (1,) * 5,
            "decoder_layers_per_block": (1,) * 4,
        },
        film=True,
    ),
    "magvit": Instance(
        model_class="AutoencoderKLMagvit",
        factor=8,
        channels=16,
        settings=_FILM,
        film=True,
    ),
    "mochi": Instance(
        model_class="AutoencoderKLMochi",
        factor=8,
        channels=12,
        settings={
            "encoder_block_out_channels": (32,) * 4,
            "decoder_block_out_channels": (32,) * 4,
            "layers_per_block": (0, 1, 1, 1, 0),
        },
        film=True,
    ),
    "kandinsky6": Instance(
        model_class="Kandinsky6SRVAE",
        factor=16,
        channels=64,
        settings={
            "encoder_block_out_channels": (4, 8, 8, 8, 8),
            "decoder_block_out_channels": (4, 8, 8, 8, 8),
            "layers_per_block": 1,
        },
        film=True,
    ),
}


def write(instance: Instance, folder: Path) -> Path:
    """Writes the model with weights drawn at random, by save_pretrained; once."""
    import diffusers

    if not folder.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(diffusers, instance.model_class)(**instance.settings)
            # What begins as zeros would hide whether it is used: noise, shortcuts, time.
            for weights in model.parameters():
                if not weights.any():
                    torch.nn.init.normal_(weights, std=0.05)
            model.save_pretrained(folder)
    return folder


def by_hand(model: Any, instance: Instance, x_BCHW: torch.Tensor, seed: int) -> torch.Tensor:
    """An image through the library's own encode and decode: (1, 3, H, W) in [0, 1] to the same in float32."""
    rae = instance.model_class == "AutoencoderRAE"
    x = x_BCHW if rae else x_BCHW * 2 - 1
    if instance.alpha:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    encoded = model.encode((x[:, :, None] if instance.film else x).to(model.dtype))
    if "latent_dist" in encoded:
        code = encoded.latent_dist.mode()
    else:
        code = encoded.latent if "latent" in encoded else encoded.latents
    decode = dict(instance.decode)
    generator = torch.Generator().manual_seed(seed)
    if instance.model_class == "ConsistencyDecoderVAE":
        decode["generator"] = [generator]
    with torch.random.fork_rng():
        if any(instance.settings.get("decoder_inject_noise", ())):
            torch.manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
        y = model.decode(code, **decode).sample.float()
    y = (y[:, :, 0] if instance.film else y)[:, :3]
    return y if rae else (y + 1) / 2


class _Patches(torch.nn.Module):
    """Stands in for RAE's encoder, which is from transformers: an image's tokens, after five others."""

    def __init__(self, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.project = torch.nn.Conv2d(3, hidden_size, patch_size, stride=patch_size)

    def forward(self, x_BCHW: torch.Tensor, **_: Any) -> SimpleNamespace:
        tokens = self.project(x_BCHW).flatten(2).transpose(1, 2)
        return SimpleNamespace(last_hidden_state=torch.cat([tokens[:, :5], tokens], 1))


@contextmanager
def transformers_or_stand_in() -> Iterator[None]:
    """Lets RAE run where the package transformers is missing."""
    from importlib.util import find_spec

    from diffusers.models.autoencoders import autoencoder_rae

    from recon.models import network

    if find_spec("transformers"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            autoencoder_rae,
            "_build_encoder",
            lambda encoder_type, hidden_size, patch_size, **_: _Patches(hidden_size, patch_size),  # noqa: ARG005
        )
        patch.setattr(network, "find_spec", lambda _: sys)
        yield


@pytest.fixture(scope="module", name="folders")
def instance_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a test file writes its instances; RAE runs there too."""
    with transformers_or_stand_in():
        yield tmp_path_factory.mktemp("instances")
