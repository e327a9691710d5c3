#!/usr/bin/env bash
# Trains on one node, or on many: run the same line on every node.
#
#   launch/torchrun.sh --config configs/aligned-iclr25.yaml --out RUN --data.train URL
#
# One node needs nothing set. Many nodes find each other by what torchrun documents:
#   NNODES=4 RDZV_ID=run7 RDZV_ENDPOINT=node0:29400     (RDZV_BACKEND=c10d by default)
# NPROC_PER_NODE is by default what torchrun calls auto: the number of GPUs, else of CPUs.
# PYTHON names the interpreter, by default the one of .venv where there is one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the trainer sets its own number of threads
processes=${NPROC_PER_NODE:-auto}
nodes=${NNODES:-1}

if [ "$nodes" = 1 ]; then
  exec "$PYTHON" "$root/launch/torchrun.py" --standalone --nproc-per-node "$processes" -m train "$@"
fi
exec "$PYTHON" "$root/launch/torchrun.py" \
  --nnodes "$nodes" --nproc-per-node "$processes" \
  --rdzv-id "${RDZV_ID:?name the job, the same on all nodes}" \
  --rdzv-backend "${RDZV_BACKEND:-c10d}" \
  --rdzv-endpoint "${RDZV_ENDPOINT:?HOST:PORT of one of the nodes}" \
  -m train "$@"
