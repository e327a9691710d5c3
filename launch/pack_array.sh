#!/usr/bin/env bash
#SBATCH --job-name=pack
#SBATCH --output=pack-%A-%a.log
#SBATCH --requeue
# Packs on many machines as a Slurm array, from the repository's folder:
#
#   sbatch --array=0-15 --gpus=1 --cpus-per-task=8 launch/pack_array.sh \
#     --source s3://bucket/photos --out s3://bucket/mine --autoencoder sd15
#
# Each task of the array is a rank; with --ntasks=8 --gpus=8 it is eight, one a GPU. Ranks need nothing of
# each other: they may start when a machine is free, and Slurm requeues one whose machine died. The last to
# end completes the dataset. To run some again, submit the array again with all of its numbers: what is
# finished is checked and skipped. A single one, 3 of 16:
#
#   sbatch --gpus=1 --cpus-per-task=8 launch/pack_array.sh --rank 3 --world_size 16 ...
#
# PAIRSTREAM names the repository's folder, by default the one that sbatch was called in; PYTHON the
# interpreter, by default the one of .venv there. It is srun that makes a task a rank: in a script of your own,
# call srun python -m pack as well; without it, a script of several tasks is refused.
set -euo pipefail
root=${PAIRSTREAM:-${SLURM_SUBMIT_DIR:?sbatch starts this, or PAIRSTREAM names the repository}}

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x "$root/.venv/bin/python" ] && PYTHON=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

# Between Slurm 22.05 and 23.02, srun takes the CPUs of a task from this variable alone, else one CPU.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-$SLURM_CPUS_PER_TASK}
fi

exec srun --kill-on-bad-exit=0 "$PYTHON" -m pack "$@"
