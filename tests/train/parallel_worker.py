"""What one of several processes does in the tests of engines: `parallel_worker.py OUT JOBS`, JOBS as JSON of `Job` fields.

The packs of a scenario are functions of their position, so that any number of processes sees the same ones.
"""

import faulthandler
import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from g2vlm import presets
from g2vlm.data.packs import positions
from g2vlm.data.samples import Pack, Sample
from g2vlm.data.sources import RoomQuestionSource, RoomSource, lesson
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Views
from g2vlm.train import parallel
from g2vlm.train.checkpoint import checkpoints, read_checkpoint, save_checkpoint
from g2vlm.train.learner import Learner
from g2vlm.train.loop import Progress, train
from g2vlm.train.parallel import Engine
from g2vlm.train.recipe import DataRecipe, EngineRecipe, OptimiserRecipe, Recipe, SourceRecipe
from tests.train.conftest import BUCKET, PATCH, new_learner

STEPS = 3
OPTIMISER = OptimiserRecipe(lr=1e-3, warmup=1, schedule="trapezoid", cooldown=0.0, eps=1e-4)
"""The rate does not depend on the last step. eps is large, for else AdamW would make whole steps of rounding noise, as in key biases."""


@dataclass(frozen=True)
class Scenario:
    """A strategy, packs per step, and what lies at a position: "rooms", "questions", "text", "blind" or "broken" by turns."""

    strategy: str
    packs_per_step: int
    contents: tuple[str, ...]
    layers: tuple[int, ...] = ()
    ema: float | None = None


SCENARIOS = {
    "both learn, text beside views, two packs each": Scenario("vg_ce", 4, ("rooms", "text"), ema=0.5),
    "semantic expert frozen": Scenario("geometry", 2, ("rooms",), layers=(0, 1)),
    "geometric expert frozen, text beside views": Scenario("ce_only", 2, ("questions", "text")),
    "geometric encoder alone, text beside views": Scenario("ce_ce", 2, ("text", "questions")),
    "views without truth beside views with it": Scenario("geometry", 2, ("rooms", "blind")),
    "a step that is not sound": Scenario("geometry", 2, ("broken", *5 * ["rooms"])),
}
ZERO3_SCENARIOS = [name for name, scenario in SCENARIOS.items() if scenario.ema is None]
"""Those without a running mean, which ZeRO-3 cannot keep."""


@dataclass(frozen=True)
class Job:
    """Train a scenario up to a step under one engine, from the newest checkpoint of the run `name` if there is one."""

    name: str
    scenario: str
    engine: dict[str, Any]
    last: int = STEPS


def recipe_of(job: Job) -> Recipe:
    scenario = SCENARIOS[job.scenario]
    return Recipe(
        "test",
        steps=job.last,
        strategy=scenario.strategy,
        data=DataRecipe((SourceRecipe("room_questions"),), packs_per_step=scenario.packs_per_step),
        optimiser=replace(OPTIMISER, ema=scenario.ema),
        engine=EngineRecipe(**job.engine),
    )


def learner_of(job: Job) -> Learner:
    """Weights are large enough for rotations to be far from degenerate, where rounding would be blown up."""
    learner = new_learner(SCENARIOS[job.scenario].strategy, layers=SCENARIOS[job.scenario].layers)
    if job.engine.get("gradient_checkpointing"):
        learner.model.gradient_checkpointing_enable()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return learner


def packs_of(job: Job, engine: Engine, first: int) -> Iterator[Pack]:
    scenario = SCENARIOS[job.scenario]
    tokens = presets.tiny().tokens
    processor = Processor(byte_tokenizer(tokens), tokens)
    for position in positions(first, scenario.packs_per_step, engine.rank, engine.world):
        content = scenario.contents[position % len(scenario.contents)]
        yield Pack(position, content, (sample(processor, content, position),))


def sample(processor: Processor, content: str, seed: int) -> Sample:
    draw = random.Random(seed)
    if content == "text":
        return Sample("text", *lesson(processor, f"What is {seed}?", "A number."[: 5 + seed % 4]))
    if content == "questions":
        return RoomQuestionSource(processor, PATCH).sample(draw, BUCKET)
    room = RoomSource(processor, PATCH).sample(draw, BUCKET)
    assert room.views is not None
    if content == "blind":
        return replace(room, views=Views(room.views.images))
    if content == "broken":
        return replace(room, views=replace(room.views, images=room.views.images * math.nan))
    return room


def run(job: Job, out: Path) -> None:
    """Do a job; its curve and the engine's description become OUT/NAME-LAST.json, its state a checkpoint of the run OUT/NAME."""
    recipe, learner = recipe_of(job), learner_of(job)
    engine = parallel.start(learner, recipe)
    described = parallel.describe(engine)
    first = 0
    if found := checkpoints(out / job.name):
        first, state = read_checkpoint(found[-1])
        engine.load(state)
    seen: list[Progress] = []
    count = recipe.data.packs_per_step // engine.world * (job.last - first)
    train(engine, islice(packs_of(job, engine, first), count), recipe, first_step=first, hooks=[seen.append])
    save_checkpoint(out / job.name, learner.model, engine, job.last, recipe)
    if engine.rank == 0:
        record = {
            "totals": [progress.total for progress in seen],
            "norms": [progress.gradient_norm for progress in seen],
            "parts": [progress.parts for progress in seen],
            "tokens": [progress.tokens for progress in seen],
            "taken": engine.taken,
            "description": described,
        }
        (out / f"{job.name}-{job.last}.json").write_text(json.dumps(record))
    if job is LAST:
        engine.close()


LAST: Job | None = None


if __name__ == "__main__":
    faulthandler.dump_traceback_later(100, exit=True)  # one that hangs says where
    jobs = [Job(**fields) for fields in json.loads(sys.argv[2])]
    LAST = jobs[-1]
    for each in jobs:
        run(each, Path(sys.argv[1]))
