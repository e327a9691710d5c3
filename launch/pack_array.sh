#!/usr/bin/env bash
#SBATCH --job-name=pack
#SBATCH --output=pack-%A-%a.log
#SBATCH --requeue
# Packs on many machines as a Slurm array; call it in the repository's folder:
#
#   sbatch --array=0-15 --gpus=1 --cpus-per-task=8 launch/pack_array.sh \
#     --source s3://bucket/photos --out s3://bucket/mine --autoencoder sd15
#
# Each task of the array is one rank; with --ntasks=8 --gpus=8 it is eight ranks, one per GPU. The ranks don't
# communicate, so each may start whenever a machine is free. If a machine dies, Slurm requeues its task. The
# last rank to end completes the dataset. To run some ranks again, submit the whole array again: finished
# shards are checked and skipped. To run only rank 3 of 16:
#
#   sbatch --gpus=1 --cpus-per-task=8 launch/pack_array.sh --rank 3 --world_size 16 ...
#
# PAIRSTREAM is the repository's folder, by default the folder in which sbatch was called. PYTHON is the
# interpreter, by default that of the repository's .venv if it exists, otherwise python3.
# Use srun in a script of your own too (srun python -m pack), because srun tells each process its rank.
# Without srun, pack refuses to run in a job of several tasks.
set -euo pipefail
# Not from $0: Slurm runs a copy of this script in a folder of its own.
root=${PAIRSTREAM:-${SLURM_SUBMIT_DIR:?not set; start this with sbatch, or set PAIRSTREAM to the repository}}

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1 # a train.py or pack.py where this is started is not ours

# From Slurm 22.05 to 23.02, srun doesn't inherit --cpus-per-task of sbatch: without this variable a task
# would get one CPU.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-$SLURM_CPUS_PER_TASK}
fi

# A failed rank must not end the others: they need nothing of it.
exec srun --kill-on-bad-exit=0 "$PYTHON" -m pack "$@"
