#!/usr/bin/env bash
# Packs with one process per GPU, or with several processes on the CPUs of a machine.
#
#   launch/pack.sh --source photos --out data/mine --autoencoder sd15
#   NPROC_PER_NODE=4 launch/pack.sh --source photos --out data/mine --autoencoder tiny --threads 4
#
# NPROC_PER_NODE is the number of processes; the default is torchrun's "auto", the number of GPUs, or of CPUs
# if there is no GPU. On CPUs, use --threads to give each process a part of the CPUs, because by default each
# uses all of them. The bytes of the dataset depend on --threads.
# If a process fails, torchrun ends all of them. The same command then continues where they stopped; with
# MAX_RESTARTS=3 torchrun does so up to three times. Started on many machines by Slurm's srun, Kubernetes,
# SkyPilot or mpirun, each packs its part; launch/README.md has files for these. Elsewhere start each rank by
# hand with --rank and --world_size.
# PYTHON is the interpreter, by default that of .venv if it exists, otherwise python3.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1 # a train.py or pack.py where this is started is not ours
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # pack sets its own number of threads

trap '' INT # while Python starts, Ctrl-C would print a traceback; torchrun.py handles it then
exec "$PYTHON" "$root/launch/torchrun.py" -m pack "$@"
