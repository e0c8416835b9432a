"""A run of thirty steps by a small model, in processes that start at once and can be killed at any moment.

All processes are forked from a server that has imported everything already; torchrun's part is played by the environment.
"""

import multiprocessing
import os
import random
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from g2vlm import presets
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train import run
from g2vlm.train.recipe import (
    DataRecipe,
    EngineKind,
    EngineRecipe,
    ModelRecipe,
    OptimiserRecipe,
    OutputRecipe,
    Recipe,
    SourceRecipe,
)
from tests.train.conftest import config

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.train.small_run"])

STEPS = 30


def recipe_of(kind: EngineKind) -> Recipe:
    return Recipe(
        "small",
        steps=STEPS,
        data=DataRecipe(
            (SourceRecipe("rooms"),),
            packs_per_step=2,
            tokens_per_pack=100,
            views=(2, 2),
            resolution=20,
            aspects=(0.8, 0.8),
            portrait=0.0,
            workers=0,
        ),
        optimiser=OptimiserRecipe(lr=1e-3, warmup=2, ema=0.9),
        engine=EngineRecipe(kind),
        output=OutputRecipe(save_every=3, keep=2),
    )


def small_model(_recipe: ModelRecipe) -> tuple[G2VLM, Processor]:
    tokens = presets.tiny().tokens
    return G2VLM(config()), Processor(byte_tokenizer(tokens), tokens)


def train(out: Path, kind: EngineKind, environment: dict[str, str]) -> None:
    """What one process does."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    run.model_of = small_model
    run.run(recipe_of(kind), out)


def start(out: Path, kind: EngineKind = "single", processes: int = 1) -> list[BaseProcess]:
    """Start, or go on with, the run in a folder."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        meeting = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(server.getsockname()[1]),
            "WORLD_SIZE": str(processes),
        }
    ranks = [meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    started = [SERVER.Process(target=train, args=(out, kind, {} if processes == 1 else rank)) for rank in ranks]
    for process in started:
        process.start()
    return started


def finish(out: Path, kind: EngineKind = "single", processes: int = 1) -> None:
    """Let a run go to its end."""
    for process in start(out, kind, processes):
        process.join(60)
        assert process.exitcode == 0


def kill_often(out: Path, kills: int, kind: EngineKind = "single", processes: int = 1, *, longest: float) -> list[Path]:
    """Runs that were killed after random whiles, `kills` times in all, and restarted until each had reached its end."""
    chance, runs = random.Random(kills), [out / "0"]
    while kills:
        started = start(runs[-1], kind, processes)
        started[0].join(chance.uniform(0.1, longest))
        if started[0].is_alive():
            kills -= 1
        else:
            assert started[0].exitcode == 0
            runs.append(out / str(len(runs)))
        for process in chance.sample(started, processes):
            process.kill()
            process.join()
    finish(runs[-1], kind, processes)
    return runs
