#!/usr/bin/env bash
# torch 2.14.1: after the first DistributedDataParallel of a process, destroy_process_group ends nothing.
#
# What is run: a gloo group of one rank; a model is wrapped in DDP, let go of, and the group is destroyed.
# Expected: the group's object and its threads are gone. Seen: the group is alive and its gloo threads run
# until the interpreter ends. Where torch.distributed.nn.functional was imported before the group was made, both
# go. (That module takes group.WORLD as the default of its functions; DDP imports it when it is built, so the
# defaults hold whatever group exists then.)
# Matters to whoever ends a rank cleanly: gloo threads at the interpreter's end are what pytorch issue 190489 is about.
# It installs 5.5 GB.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$work/group.py" <<'PY'
import gc
import importlib
import os
import sys
import weakref

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def gloo_threads():
    names = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as file:
            names.append(file.read())
    return sum("gloo" in name for name in names)


if sys.argv[1] == "imported":
    importlib.import_module("torch.distributed.nn.functional")
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
group = weakref.ref(dist.group.WORLD)
model = DistributedDataParallel(torch.nn.Linear(2, 2))
del model
dist.destroy_process_group()
gc.collect()
print(f"{sys.argv[1]}: group alive {group() is not None}, gloo threads {gloo_threads()}")
PY
plain=$("$work/venv/bin/python" "$work/group.py" plain 2>/dev/null)
imported=$("$work/venv/bin/python" "$work/group.py" imported 2>/dev/null)
echo "$plain"
echo "$imported"
[[ $plain == "plain: group alive True, gloo threads "[1-9]* ]] || { echo "the behaviour has changed"; exit 1; }
[[ $imported == "imported: group alive False, gloo threads 0" ]] || { echo "the behaviour has changed"; exit 1; }
# Output seen:
# plain: group alive True, gloo threads 3
# imported: group alive False, gloo threads 0
