#!/usr/bin/env bash
# Trains on one node or on many nodes; run the same command on every node.
#
#   launch/torchrun.sh --config configs/aligned-iclr25.yaml --out RUN --data.train URL
#
# One node needs no variables. Many nodes find each other by these variables (see torchrun's --rdzv options):
#   NNODES=4 RDZV_ID=run7 RDZV_ENDPOINT=node0:29400     (RDZV_BACKEND=c10d by default)
# On Slurm, let srun start this script once per node (--ntasks-per-node=1); srun python -m train is refused.
# NPROC_PER_NODE is the number of ranks per node; the default is torchrun's "auto", the number of GPUs, or of
# CPUs if there is no GPU.
# With MAX_RESTARTS=3, all ranks start again up to three times when a rank dies. They continue from the newest
# checkpoint. Add --resume auto if a scheduler may start the job again: the new job then continues too. On
# many nodes MAX_RESTARTS needs --resume auto as well: a node that comes back counts as a first start.
# After SIGTERM or SIGUSR1 all ranks save a checkpoint at the same step, and the exit status is 75. The job is
# then started again by Slurm with
#   sbatch --requeue --signal=USR1@300, and 'scontrol requeue $SLURM_JOB_ID' after status 75
# or by a Kubernetes Job (restartPolicy OnFailure, terminationGracePeriodSeconds 300).
# PYTHON is the interpreter, by default that of .venv if it exists, otherwise python3.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1 # a train.py or pack.py where this is started is not ours
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the trainer sets its own number of threads
processes=${NPROC_PER_NODE:-auto}
nodes=${NNODES:-1}
restarts=${MAX_RESTARTS:-0}

refuse() {
  echo "error: $1" >&2
  exit 2
}
[[ $nodes =~ ^[1-9][0-9]*(:[1-9][0-9]*)?$ ]] || refuse "NNODES=$nodes, expected a number of nodes, or MIN:MAX"
[[ $processes =~ ^([1-9][0-9]*|auto|gpu|cpu)$ ]] || refuse "NPROC_PER_NODE=$processes, expected a number, auto, gpu or cpu"
[[ $restarts =~ ^[0-9]+$ ]] || refuse "MAX_RESTARTS=$restarts, expected a number"
if [ "$nodes" = 1 ]; then
  exec "$PYTHON" "$root/launch/torchrun.py" \
    --standalone --nproc-per-node "$processes" --max-restarts "$restarts" -m train "$@"
fi
[ -n "${RDZV_ID:-}" ] || refuse "NNODES=$nodes needs RDZV_ID, a name of the job, the same on all nodes"
[ -n "${RDZV_ENDPOINT:-}" ] || refuse "NNODES=$nodes needs RDZV_ENDPOINT, HOST:PORT of one of the nodes"
exec "$PYTHON" "$root/launch/torchrun.py" \
  --nnodes "$nodes" --nproc-per-node "$processes" --max-restarts "$restarts" \
  --rdzv-id "$RDZV_ID" \
  --rdzv-backend "${RDZV_BACKEND:-c10d}" \
  --rdzv-endpoint "$RDZV_ENDPOINT" \
  -m train "$@"
