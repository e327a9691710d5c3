#!/usr/bin/env bash
# torch 2.14.1: fused SGD with momentum begins with what was in the memory, if GradScaler leaves out its first step.
#
# What is run: two steps of SGD with momentum .9 under torch.amp.GradScaler on a CPU. The scale of the first is so
# large that its gradients overflow, as the first ones of mixed precision usually do, so the scaler leaves the step
# out. The memory of a freed tensor of 7s lies around. Expected: the momentum after the second step is its gradient,
# 1.0. Seen: with fused=False it is; with fused=True it is 0.9 x 7 + 1 = 7.3. (The fused step makes its momentum
# with torch.empty_like and relies on the kernel to fill it, which leaves itself out; the next step takes it as it
# is.) A momentum that is NaN or huge then stays, and nothing tells.
# Matters to whoever trains with fused SGD and a loss scale: fill state["momentum_buffer"] with zeros beforehand.
# It installs 5.5 GB.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$work/momentum.py" <<'PY'
import torch

SIZE = 200  # small, so that the allocator gives a freed block back as it was


def momentum(fused):
    weight = torch.nn.Parameter(torch.zeros(SIZE))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    for slope in (4.0, 1.0):  # 4 x 2**127 is infinite in float32
        scaler.scale((weight * slope).sum()).backward()
        for left in [torch.full((SIZE,), 7.0) for _ in range(64)]:
            del left
        scaler.step(optimizer)
        scaler.update(2.0)
        optimizer.zero_grad(set_to_none=True)
    return round(float(optimizer.state[weight]["momentum_buffer"][SIZE // 2]), 3)


print("fused=False:", momentum(False))
print("fused=True:", momentum(True))
PY
seen=$("$work/venv/bin/python" "$work/momentum.py" 2>/dev/null)
echo "$seen"
[[ $seen == "fused=False: 1.0"* ]] || { echo "the behaviour has changed"; exit 1; }
[[ $seen != *"fused=True: 1.0" ]] || { echo "the behaviour has changed"; exit 1; }
# Output seen:
# fused=False: 1.0
# fused=True: 7.3
