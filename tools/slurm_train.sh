#!/usr/bin/env bash
# Train on machines of a SLURM cluster, one process for each GPU; an example to adapt:
#   sbatch --nodes=4 --gpus-per-node=8 tools/slurm_train.sh CONFIG [flags of tools/train.py]
# The job goes back into the queue where it is preempted or a machine fails, and goes on from its
# last checkpoint. Its processes meet at a port of their own, so that jobs may share a machine.
#SBATCH --job-name=fgclip_det
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: sbatch --nodes=N --gpus-per-node=G $0 CONFIG [flags of tools/train.py]" >&2
  exit 2
fi
# SLURM runs a copy of this file: the folder is the one that sbatch was called in.
cd "${SLURM_SUBMIT_DIR:?is not set: start this by sbatch, from the folder of the repository}"
# No pipe into head: it may close before all names are written, which ends this script.
machines=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${machines%%[[:space:]]*} PORT=$((20000 + SLURM_JOB_ID % 20000)) NNODES=$SLURM_JOB_NUM_NODES
# One torchrun on each machine, which starts its processes; if one ends, so does the job.
srun --kill-on-bad-exit=1 bash -c 'NODE_RANK=$SLURM_NODEID exec bash tools/dist_train.sh "$@"' \
  dist_train.sh "$1" "${SLURM_GPUS_ON_NODE:-1}" --resume "${@:2}"
