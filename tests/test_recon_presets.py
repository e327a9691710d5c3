"""The presets: each whole, as large as its class says, listed alike by the command and in the README."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_files import BLOCKS, random_model

from recon.__main__ import main
from recon.models.config import ReconstructionConfig
from recon.models.listing import COLUMNS, rows, table
from recon.models.locate import locate
from recon.models.presets import PRESETS

ROOT = Path(__file__).parents[1]
KL: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
NO_QUANT: dict[str, Any] = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
SETTINGS: dict[str, dict[str, Any]] = {  # of the models' own config.json; others have those of their class
    **{name: {**KL, "latent_channels": 4} for name in ("ldm-f8", "sd15", "sd-vae-ft-mse", "sd21", "sdxl")},
    **{name: {**KL, **NO_QUANT} for name in ("sd3", "sd35", "flux1", "z-image")},
    "flux2": {},
    "flux2-small": {"decoder_block_out_channels": (96, 192, 384, 384)},
    "qwen": {},
    "qwen21": {},
    "sana": {
        "latent_channels": 32,
        **{
            f"{half}_{name}": value
            for half in ("encoder", "decoder")
            for name, value in {
                "block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
                "block_out_channels": (128, 256, 512, 512, 1024, 1024),
                "qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
            }.items()
        },
        "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
        "decoder_layers_per_block": (3,) * 6,
        "downsample_block_type": "Conv",
        "upsample_block_type": "interpolate",
    },
    "hunyuan21": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 64,
        "block_out_channels": (128, 256, 512, 512, 1024, 1024),
        "layers_per_block": 2,
        "spatial_compression_ratio": 32,
        "sample_size": 384,
    },
    "wan21": {},
    "wan22": {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "is_residual": True,
        "scale_factor_spatial": 16,
    },
    "kandinsky": {
        "block_out_channels": (128, 256, 256, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_type": "spatial",
        "num_vq_embeddings": 16384,
        "vq_embed_dim": 4,
    },
    "taesd": {},
    "taef1": {"latent_channels": 16},
}

FRAMES = dict.fromkeys(("qwen", "qwen21", "wan21", "wan22"), (1,))  # those of video take one frame


def test_every_preset_is_fixed_to_a_commit_or_a_branch_and_described() -> None:
    for name, preset in PRESETS.items():
        on_hub = "/" in preset.id
        assert on_hub == (preset.revision is not None), name
        assert not on_hub or re.fullmatch(r"[0-9a-f]{40}|main", preset.revision or ""), name
        assert preset.note, name


@pytest.mark.parametrize("name", SETTINGS)
def test_preset_has_the_class_factor_and_number_of_weights_that_it_says(name: str) -> None:
    import diffusers

    preset = PRESETS[name]
    with torch.device("meta"), torch.inference_mode():  # shapes alone, no memory
        model = getattr(diffusers, preset.model_class)(**SETTINGS[name]).eval()
        probe = torch.empty(1, 4 if name == "qwen21" else 3, *FRAMES.get(name, ()), 256, 256)
        code = model.encode(probe)
    latents = code.latent_dist.mean if "latent_dist" in code else next(iter(code.values()))
    assert 256 / latents.shape[-1] == 256 / latents.shape[-2] == preset.factor
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6, 1) == preset.millions


def test_embedded_preset_has_the_number_of_weights_that_it_says() -> None:
    from safetensors.torch import load_file

    folder = locate(ReconstructionConfig(autoencoder="tiny")).folder
    weights = load_file(folder / "diffusion_pytorch_model.safetensors").values()
    assert round(sum(one.numel() for one in weights) / 1e6, 1) == PRESETS["tiny"].millions
    assert set(SETTINGS) == set(PRESETS) - {"tiny", "identity"}


def cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|"))


def test_readme_has_the_table_of_the_presets() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| preset |"))
    assert cells(lines[start]) == COLUMNS
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    assert list(map(cells, lines[start + 2 : end])) == rows()


def test_list_prints_every_preset_and_what_is_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    for name in ("taesd", "sana"):
        preset = PRESETS[name]
        folder = tmp_path / f"models--{preset.id.replace('/', '--')}" / "snapshots" / str(preset.revision)
        random_model("AutoencoderKL", folder, **BLOCKS)
    (folder / "diffusion_pytorch_model.safetensors").unlink()  # of sana: fetched in part
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as ended:
        main(["--list"])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert printed == table() + "\n"
    found = {line.split()[0]: re.search(r" (yes|no|embedded) ", line) for line in printed.splitlines()[1:]}
    assert set(found) == set(PRESETS)
    assert {name: one[1] for name, one in found.items() if one} == {
        name: {"taesd": "yes", "tiny": "embedded", "identity": "embedded"}.get(name, "no") for name in PRESETS
    }


def test_list_is_no_value_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--source", "a", "--out", "b", "--print_config"])
    assert "list" not in capsys.readouterr().out
