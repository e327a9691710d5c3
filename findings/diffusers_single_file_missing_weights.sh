#!/usr/bin/env bash
# diffusers 0.42.1 from_single_file leaves weights that the file lacks at random values, and says nothing.
#
# What is run: an AutoencoderKL's weights without decoder.conv_out.weight are saved as ae.safetensors and loaded twice
# by from_single_file, with the model's own config. Expected: an error, or the warning that from_pretrained gives
# (and the names in its output_loading_info). Seen: no line at all, and another decoder after each load. (The keys that
# load_state_dict(strict=False) reports as missing are dropped in loaders/single_file_model.py.)
# Beside it: without a config, the shapes of FLUX.1's autoencoder (16 latent channels) are taken for those of Stable
# Diffusion 1.5 (4 channels), whose config is then fetched from the hub.
# Matters to whoever loads a VAE of ComfyUI or A1111 that is cut, pruned or of another build.
# It installs 5.5 GB.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
cd "$work"
HF_HOME="$work/hf" HF_HUB_OFFLINE=1 "$work/venv/bin/python" - 2>stderr <<'PY'
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import fetch_diffusers_config
from safetensors.torch import save_file

down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
model = AutoencoderKL(
    latent_channels=16, block_out_channels=(32, 64), down_block_types=down, up_block_types=up,
    use_quant_conv=False, use_post_quant_conv=False,
)
model.save_config("config")
weights = model.state_dict()
del weights["decoder.conv_out.weight"]
save_file(weights, "ae.safetensors")

loaded = [AutoencoderKL.from_single_file("ae.safetensors", config="config", local_files_only=True) for _ in range(2)]
first, second = (one.decoder.conv_out.weight for one in loaded)
print(f"loaded twice, equal weights: {torch.equal(first, second)}")
assert not torch.equal(first, second), "the missing weight has one value: the behaviour has changed"

flux = {"encoder.conv_in.weight": torch.zeros(128, 3, 3, 3), "decoder.conv_in.weight": torch.zeros(512, 16, 3, 3)}
found = fetch_diffusers_config(flux)["pretrained_model_name_or_path"]
print(f"FLUX.1's autoencoder is taken for: {found}")
assert found == "stable-diffusion-v1-5/stable-diffusion-v1-5", "the behaviour has changed"
PY
if grep -q conv_out stderr; then echo "the missing weight is told: the behaviour has changed"; exit 1; fi
# Output seen:
# loaded twice, equal weights: False
# FLUX.1's autoencoder is taken for: stable-diffusion-v1-5/stable-diffusion-v1-5
