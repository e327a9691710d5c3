#!/usr/bin/env bash
# timm 1.0.31 and peft 0.21.2: LoRA on the qkv of an EVA, as DINOv3's ..._qkvb are, trains nothing.
#
# What is run: LoRA is injected into the attention's qkv of two small networks of timm, a ViT and an EVA with biases
# of query and value; one backward pass. Expected: a gradient for LoRA's factors in both. Seen: none in the EVA's, and
# no error: its attention calls F.linear(x, weight=self.qkv.weight, bias=...) instead of the layer, and peft's layer
# hands out the frozen weight as .weight. The model trains on without what LoRA was asked for.
# Matters to whoever fine-tunes these backbones by target_modules=["qkv"]: look whether the factors get a gradient.
# It installs 5.5 GB.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 timm==1.0.31 peft==0.21.2
cat > "$work/qkv.py" <<'PY'
import torch
from peft import LoraConfig, inject_adapter_in_model
from timm.models import Eva, VisionTransformer

size = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 3, "num_classes": 1}
for make in (VisionTransformer, Eva):
    model = make(**size, qkv_bias=True)
    inject_adapter_in_model(LoraConfig(target_modules=["qkv"]), model)
    model.head.requires_grad_(True)
    model(torch.rand(1, 3, 32, 32)).sum().backward()
    factors = [weight for name, weight in model.named_parameters() if "lora_" in name]
    trained = sum(weight.grad is not None for weight in factors)
    print(make.__name__, trained, "of", len(factors), "factors have a gradient")
PY
seen=$("$work/venv/bin/python" "$work/qkv.py" 2>/dev/null)
echo "$seen"
expected="VisionTransformer 2 of 2 factors have a gradient
Eva 0 of 2 factors have a gradient"
[[ $seen == "$expected" ]] || { echo "the behaviour has changed"; exit 1; }
# Output seen:
# VisionTransformer 2 of 2 factors have a gradient
# Eva 0 of 2 factors have a gradient
