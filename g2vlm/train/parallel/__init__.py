"""How a run is spread over processes: every engine learns packs, steps, and gives its whole state by name.

The one place that knows ranks. State by name is what makes checkpoints independent of engine and number of processes.
"""

import torch

from g2vlm.train.learner import Learner
from g2vlm.train.parallel.engine import MOMENTS, Engine, Proof, SingleEngine, State
from g2vlm.train.parallel.launch import Group, Place, join, place_of
from g2vlm.train.recipe import EngineKind, Recipe

__all__ = [
    "MOMENTS",
    "Engine",
    "Group",
    "Place",
    "Proof",
    "SingleEngine",
    "State",
    "describe",
    "join",
    "place_of",
    "start",
]


def start(learner: Learner, recipe: Recipe) -> Engine:
    """The engine of a recipe, once its processes have met, with the learner on its device.

    Raises ValueError where the launch, the recipe and what its processes start from disagree.
    """
    group = join(recipe.engine)
    world, packs = group.place.world, recipe.data.packs_per_step
    if packs % world:
        raise ValueError(
            f"data.packs_per_step is {packs}, which {world} processes cannot share; set it to {-(-packs // world) * world}"
        )
    kind: EngineKind = recipe.engine.kind
    if kind == "auto":
        kind = "single" if world == 1 else "ddp"
    engine = engine_class(kind)(learner, recipe.engine, recipe.optimiser, group)
    engine.proof = engine.prove()
    return engine


def engine_class(kind: EngineKind) -> type[Engine]:
    """The engine of a kind; what only it needs is imported here."""
    if kind in ("zero2", "zero3"):
        from g2vlm.train.parallel.zero import Zero2Engine, Zero3Engine

        return Zero2Engine if kind == "zero2" else Zero3Engine
    if kind in ("ddp", "fsdp2"):
        from g2vlm.train.parallel.several import DdpEngine, Fsdp2Engine

        return DdpEngine if kind == "ddp" else Fsdp2Engine
    return Engine


def describe(engine: Engine) -> str:
    """What a run really runs on, as it was measured at its start; for a person."""
    proof = engine.proof
    is_cuda = engine.device.type == "cuda"
    device = torch.cuda.get_device_name(engine.device) if is_cuda else "CPU"
    backend = f" over {engine.group.backend}" if engine.group.backend else ""
    products = "bfloat16" if engine.recipe.precision == "bf16" else "float32"
    return "\n".join(
        [
            f"engine      {engine.kind}, {_count(proof.processes, 'process', 'es')}{backend}, on {device}",
            f"shards      each parameter in {proof.weight_shards}, its moments in {proof.moment_shards}",
            f"precision   matrix products in {products}, weights and moments in float32",
            f"parameters  {proof.learning:,} learn, {proof.frozen:,} are frozen",
        ]
    )


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"
