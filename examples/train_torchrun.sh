#!/usr/bin/env bash
# Train a recipe on every GPU of this machine, or of several machines without a scheduler.
#
#   examples/train_torchrun.sh RECIPE OUT [--set path.to.field=value ...]
#
# One machine: nothing else is needed; it takes all GPUs that CUDA_VISIBLE_DEVICES shows, or PROCESSES of them.
# Several: start it on each of them with the same arguments, with
#   NODES         how many machines there are
#   MASTER_ADDR   name or address of one of them, which all can reach
#   MASTER_PORT   a port that is free there (29500)
# RECIPE, the data and OUT have to be the same paths on all, OUT on a file system that they share: the first process
# writes there, and on resuming every process reads from it. After a crash or a time limit start it again: it goes on.
#
# Worth knowing:
#   --set engine.kind=fsdp2                        shards weights, gradients and moments; ddp keeps all on each GPU
#   --set engine.shard_group=8                     one copy of the weights per 8 GPUs (one machine); gradients cross over
#   OMP_NUM_THREADS                                threads of each process: cores / processes, as it loads data as well
#   NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME         network interface, where the machines have several
#   NCCL_DEBUG=INFO                                says which network NCCL found
#   TORCH_DISTRIBUTED_DEBUG=DETAIL                 names the collective in which processes disagree
set -euo pipefail

recipe=${1:?RECIPE is missing}
out=${2:?OUT is missing}
shift 2

gpus=$(python -c "import torch; print(torch.cuda.device_count())")
processes=${PROCESSES:-$((gpus ? gpus : 1))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / processes > 0 ? $(nproc) / processes : 1))}

if ((${NODES:-1} > 1)); then
    meeting=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-id "$(basename "$out")"
        --rdzv-endpoint "${MASTER_ADDR:?where the machines meet}:${MASTER_PORT:-29500}")
else
    meeting=(--standalone)
fi

exec torchrun "${meeting[@]}" --nproc-per-node "$processes" -m g2vlm.train "$recipe" --out "$out" --resume "$@"
