"""`python -m g2vlm.train --out DIR [--steps N] ...`: stage one of the tiny model; stops and resumes at any step."""

import argparse
from dataclasses import fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from g2vlm import presets
from g2vlm.heads.correspondence import CorrespondenceHeads
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train.batches import room_batches
from g2vlm.train.checkpoint import resume, save_checkpoint
from g2vlm.train.hooks import every, log_to
from g2vlm.train.loop import Learner, train
from g2vlm.train.optim import freeze, optimizer_of
from g2vlm.train.recipe import RECIPES, TINY_STAGE1, Recipe

OVERRIDES = ("steps", "scenes", "views", "lr", "warmup", "cooldown", "schedule", "seed", "save_every")


def main() -> None:
    parser = argparse.ArgumentParser(prog="g2vlm.train", description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="tiny_stage1")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of checkpoints and log; an unfinished run goes on"
    )
    types = {field.name: type(getattr(TINY_STAGE1, field.name)) for field in fields(Recipe)}
    for name in OVERRIDES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=types[name], help="the recipe's own unless given")
    arguments = vars(parser.parse_args())
    given = {name: arguments[name] for name in OVERRIDES if arguments[name] is not None}
    run(replace(RECIPES[arguments["recipe"]], **given), arguments["out"])


def run(recipe: Recipe, out: Path) -> None:
    """Train the recipe's model into `out`, from its newest checkpoint if there is one."""
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision)
    torch.manual_seed(recipe.seed)
    model = G2VLM(getattr(presets, recipe.preset)())
    freeze(model, recipe.frozen)
    processor = Processor(byte_tokenizer(model.config.tokens), model.config.tokens)
    layers = recipe.correspondence_layers
    heads = CorrespondenceHeads(model.config.text_config.hidden_size, layers) if layers else None
    learner = Learner(model, heads)
    optimizer = optimizer_of(learner.parameters(), recipe)
    step = resume(out, learner, optimizer)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    learner = Learner(wrapped, heads if heads is None else accelerator.prepare(heads))
    batches = room_batches(recipe, step, accelerator.process_index, accelerator.num_processes)
    hooks = []
    if accelerator.is_main_process:
        plain = Learner(model, heads)
        hooks = [
            log_to(out / "log.jsonl", recipe.log_every),
            every(recipe.save_every, recipe.steps, lambda step: save_checkpoint(out, plain, optimizer, step, recipe)),
        ]
    train(learner, processor, batches, optimizer, recipe, accelerator, first_step=step, hooks=hooks)


if __name__ == "__main__":
    main()
