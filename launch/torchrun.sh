#!/usr/bin/env bash
# Trains on one node or on many nodes; run the same command on every node.
#
#   launch/torchrun.sh --config configs/aligned-iclr25.yaml --out RUN --data.train URL
#
# One node needs no variables. Many nodes find each other by what their scheduler tells them: Slurm (let srun
# start this script once per node), Kubeflow's TrainJob, an Indexed Job or a JobSet of Kubernetes, SkyPilot, or
# mpirun (once per node). launch/README.md has files for each. By hand, give every node
#   NNODES=4 RDZV_ID=run7 RDZV_ENDPOINT=node0:29400     (RDZV_BACKEND=c10d by default)
# The first line of the log says what was found. DRY_RUN=1 prints the command line of torchrun instead.
# NPROC_PER_NODE is the number of ranks per node; the default is torchrun's "auto", the number of GPUs, or of
# CPUs if there is no GPU. RDZV_TIMEOUT is how long nodes wait for each other at the start, 600 seconds by default.
# Nodes compare NNODES and NPROC_PER_NODE where they meet, and refuse to start if these differ.
# A node that is silent for NODE_TIMEOUT seconds (45) counts as gone. After a restart nodes wait for each other
# for REJOIN_TIMEOUT seconds (60); with NNODES=MIN:MAX at least 20, until a dead node no longer counts.
# With MAX_RESTARTS=3, all ranks start again up to three times when a rank dies. They continue from the newest
# checkpoint. Add --resume auto if a scheduler may start the job again: the new job then continues too. On
# many nodes MAX_RESTARTS needs --resume auto as well: a node that comes back counts as a first start. If the node
# where all meet (RDZV_ENDPOINT) is lost, nothing starts again: a scheduler has to start all nodes.
# With NNODES=2:4 the run goes on with the nodes that are there; --order.lanes must suit each number of ranks.
# After SIGTERM or SIGUSR1 all ranks save a checkpoint at the same step, and the exit status is 75: the
# scheduler is to start the job again. 2 is a mistake, 69 says that another node or rank has ended, and 74 that
# the bucket did not answer.
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

trap '' INT # while Python starts, Ctrl-C would print a traceback; torchrun.py handles it then
exec "$PYTHON" "$root/launch/torchrun.py" -m train "$@"
