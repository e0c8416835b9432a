"""Joining the processes of a run: what the launcher says about them, and proof that they are really there."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from g2vlm.train.recipe import EngineRecipe

PATIENCE = timedelta(minutes=30)
"""How long processes wait for one another, the longest being the first one's writing of a checkpoint."""

OTHER_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which MPI's launchers say how many processes they started; those do not know each other yet."""


@dataclass(frozen=True)
class Place:
    """One process among `world`: `local` counts those of its machine."""

    rank: int
    world: int
    local: int


ALONE = Place(0, 1, 0)


@dataclass(frozen=True)
class Group:
    """This process, where it computes, and by what it talks to the others (None: nobody to talk to)."""

    place: Place
    device: torch.device
    backend: str | None


def place_of(environment: Mapping[str, str]) -> Place:
    """What the launcher says: torchrun, `accelerate launch` and `deepspeed` in one way, Slurm's `srun` in its own.

    Raises ValueError where several processes were meant, but this one cannot find the others.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        place = _place(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        place = _place(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    else:
        _refuse_lost_processes(environment)
        return ALONE
    if place.world > 1 and not ("MASTER_ADDR" in environment and "MASTER_PORT" in environment):
        raise ValueError(
            f"this is process {place.rank} of {place.world}, but MASTER_ADDR and MASTER_PORT do not say where they meet; "
            "set both, as examples/train_slurm.sh does"
        )
    return place


def _place(environment: Mapping[str, str], rank: str, world: str, local: str) -> Place:
    place = Place(*(int(environment.get(name, 0)) for name in (rank, world, local)))
    if not 0 <= place.rank < place.world:
        raise ValueError(
            f"{rank} is {place.rank} and {world} is {place.world}; rank must lie in [0, world): unset both"
        )
    return place


def _refuse_lost_processes(environment: Mapping[str, str]) -> None:
    """A process without a rank whose surroundings speak of several would train a copy of the run for itself."""
    cure = "start with torchrun --nproc-per-node N -m g2vlm.train ..., or set engine.processes=1 to train with one"
    for name in OTHER_LAUNCHERS:
        if int(environment.get(name, 1)) > 1:
            raise ValueError(f"{name} is {environment[name]}, but those processes do not know each other; {cure}")
    if int(environment.get("SLURM_NTASKS", 1)) > 1:
        raise ValueError(
            f"SLURM_NTASKS is {environment['SLURM_NTASKS']}, but srun did not start this process: it would train alone; "
            "put srun before the command, or set engine.processes=1 to train with one"
        )
    for name in ("MASTER_ADDR", "RANK", "WORLD_SIZE"):
        if name in environment:
            raise ValueError(
                f"{name} is set, as for several processes, but this one has no rank (accelerate launch --cpu does so); {cure}"
            )


def join(recipe: EngineRecipe) -> Group:
    """Find this process's place, check that it is the recipe's, and meet the others.

    Raises ValueError where the launch and the recipe disagree.
    """
    place = ALONE if _is_meant_alone(recipe) else place_of(os.environ)
    if recipe.processes not in (None, place.world):
        raise ValueError(
            f"engine.processes is {recipe.processes}, but the launcher started {place.world}: "
            f"torchrun --nproc-per-node {recipe.processes} starts as many on one machine"
        )
    if place.world > 1 and recipe.kind == "single":
        raise ValueError(f"engine.kind is single, but the launcher started {place.world} processes; write kind: ddp")
    if recipe.shard_group is not None and place.world % recipe.shard_group:
        raise ValueError(
            f"engine.shard_group is {recipe.shard_group}, which does not divide the {place.world} processes; take a divisor"
        )
    device = _device_of(place)
    needs_group = place.world > 1 or recipe.kind not in ("auto", "single")
    return Group(place, device, _connect(place, device, recipe.cpu_offload) if needs_group else None)


def _is_meant_alone(recipe: EngineRecipe) -> bool:
    return recipe.processes == 1 and "RANK" not in os.environ


def _device_of(place: Place) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    index = place.local if visible > 1 else 0  # a launcher may show each process only its own
    if index >= visible:
        raise ValueError(
            f"process {place.local} of this machine has no GPU of its own, there are {visible}; start {visible}"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _connect(place: Place, device: torch.device, with_cpu: bool) -> str:
    """Meet the other processes; returns the backend."""
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl" if with_cpu else "nccl"
    if not dist.is_initialized():
        where = "env://"
        if place.world == 1:
            where = f"tcp://127.0.0.1:{_free_port()}"
        dist.init_process_group(backend, where, PATIENCE, place.world, place.rank)
    if (dist.get_rank(), dist.get_world_size()) != (place.rank, place.world):
        raise ValueError(
            f"the launcher started {place.world} processes, but only {dist.get_world_size()} met; check MASTER_ADDR and MASTER_PORT"
        )
    return backend


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
