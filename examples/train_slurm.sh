#!/usr/bin/env bash
# Train a recipe under Slurm; one task per GPU, started by srun, without torchrun.
#
#   sbatch --nodes 4 examples/train_slurm.sh RECIPE OUT [--set path.to.field=value ...]
#
# Options before the script's name override the lines below; account and partition are yours to add. The run is
# requeued when its time is up or a machine fails, and goes on from its newest checkpoint.
#SBATCH --job-name=g2vlm
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#
# What the processes go by: srun gives each SLURM_PROCID (its rank), SLURM_STEP_NUM_TASKS (how many there are) and
# SLURM_LOCALID (its GPU); MASTER_ADDR and MASTER_PORT, where they meet, are set here. OUT and the data have to lie on a
# file system that all machines share. A job script that forgets srun is refused: it would train one copy, alone.
#
# Worth knowing: --set engine.kind=fsdp2 --set engine.shard_group=8 keeps one copy of the weights per machine of 8 GPUs;
# --set engine.processes=32 refuses to start with any other number; NCCL_SOCKET_IFNAME chooses the network interface.
set -euo pipefail

recipe=${1:?RECIPE is missing}
out=${2:?OUT is missing}
shift 2

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

exec srun --kill-on-bad-exit=1 python -m g2vlm.train "$recipe" --out "$out" --resume "$@"
