#!/usr/bin/env bash
# Trains on one node, or on many: run the same line on every node.
#
#   launch/torchrun.sh --config configs/aligned-iclr25.yaml --out RUN --data.train URL
#
# One node needs nothing set. Many nodes find each other by what torchrun documents:
#   NNODES=4 RDZV_ID=run7 RDZV_ENDPOINT=node0:29400     (RDZV_BACKEND=c10d by default)
# On Slurm srun starts it once on each node (--ntasks-per-node=1); srun python -m train is refused.
# NPROC_PER_NODE is by default what torchrun calls auto: the number of GPUs, else of CPUs.
# MAX_RESTARTS=3 starts all ranks anew, up to three times, when one dies; they go on from the newest
# checkpoint. Add --resume auto, so that a job that the scheduler starts again goes on too (on many nodes
# it is needed for MAX_RESTARTS as well: a node that comes back counts as a first start).
# At SIGTERM or SIGUSR1 all ranks save after the same step, and the status is 75: Slurm's
#   sbatch --requeue --signal=USR1@300, and 'scontrol requeue $SLURM_JOB_ID' where it ended with 75
# or a Kubernetes Job (restartPolicy OnFailure, terminationGracePeriodSeconds 300) start it again.
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
restarts=${MAX_RESTARTS:-0}

if [ "$nodes" = 1 ]; then
  exec "$PYTHON" "$root/launch/torchrun.py" \
    --standalone --nproc-per-node "$processes" --max-restarts "$restarts" -m train "$@"
fi
exec "$PYTHON" "$root/launch/torchrun.py" \
  --nnodes "$nodes" --nproc-per-node "$processes" --max-restarts "$restarts" \
  --rdzv-id "${RDZV_ID:?name the job, the same on all nodes}" \
  --rdzv-backend "${RDZV_BACKEND:-c10d}" \
  --rdzv-endpoint "${RDZV_ENDPOINT:?HOST:PORT of one of the nodes}" \
  -m train "$@"
