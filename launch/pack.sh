#!/usr/bin/env bash
# Packs on all GPUs of one machine, or by several processes on its CPUs.
#
#   launch/pack.sh --source photos --out data/mine --autoencoder sd15
#   NPROC_PER_NODE=4 launch/pack.sh --source photos --out data/mine --autoencoder tiny --threads 4
#
# NPROC_PER_NODE is by default what torchrun calls auto: the number of GPUs, else of CPUs. On CPUs, give each
# process its share by --threads, which is part of what decides the bytes; without it each takes all of them.
# torchrun ends all processes when one fails; the same line goes on where they stopped, and MAX_RESTARTS=3
# does that up to three times by itself. On many machines: launch/pack_array.sh, or the same command with
# --rank and --world_size on each.
# PYTHON names the interpreter, by default the one of .venv where there is one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # pack sets its own number of threads

exec "$PYTHON" "$root/launch/torchrun.py" --standalone \
  --nproc-per-node "${NPROC_PER_NODE:-auto}" --max-restarts "${MAX_RESTARTS:-0}" -m pack "$@"
