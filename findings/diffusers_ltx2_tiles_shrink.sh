#!/usr/bin/env bash
# diffusers 0.42.1: AutoencoderKLLTX2Video says that its factor is 64, but it is 32; with tiling the image shrinks.
#
# What is run: the class with its default stages, its widths cut and its weights random; one frame of 704x704 pixels
# is encoded and decoded, as it is and after enable_tiling().
# Expected: spatial_compression_ratio 32 (704 / 22 latents), and 704x704 pixels both ways. Seen: 64, and 384x384 pixels
# with tiling, without an error or a warning. (The default is patch_size * 2 ** sum(spatio_temporal_scaling), which
# counts the stage whose downsample_type is "temporal"; tiled_encode then crops the code to 704 // 64 = 11 places.)
# Matters to whoever pads images to that number, or saves memory by tiles, and does not compare sizes afterwards.
# Weights whose config.json has spatial_compression_ratio are not concerned.
# It installs 5.5 GB.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
"$work/venv/bin/python" - 2>/dev/null <<'PY'
import torch
from diffusers import AutoencoderKLLTX2Video

model = AutoencoderKLLTX2Video(
    block_out_channels=(8, 8, 16, 32),
    decoder_block_out_channels=(8, 16, 32),
    layers_per_block=(1,) * 5,
    decoder_layers_per_block=(1,) * 4,
).eval()
seen = []
with torch.inference_mode():
    for tiling in (False, True):
        if tiling:
            model.enable_tiling()
        code = model.encode(torch.zeros(1, 3, 1, 704, 704)).latent_dist.mode()
        image = model.decode(code).sample
        seen.append((tuple(code.shape[-2:]), tuple(image.shape[-2:])))
print(f"ratio {model.spatial_compression_ratio}; latents and pixels: plain {seen[0]}, tiled {seen[1]}")
assert model.spatial_compression_ratio == 64 and seen[0] == ((22, 22), (704, 704)), "the behaviour has changed"
assert seen[1][1] != (704, 704), "the behaviour has changed"
PY
# Output seen:
# ratio 64; latents and pixels: plain ((22, 22), (704, 704)), tiled ((11, 11), (384, 384))
