"""A run with everything a person sees: screen, log, metrics, pictures, and a folder that explains itself."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from logging.handlers import MemoryHandler
from pathlib import Path

from g2vlm.data.packs import Packs
from g2vlm.train import hooks, parallel
from g2vlm.train.loop import Hook
from g2vlm.train.metrics import METRICS, Row, append_row
from g2vlm.train.pictures import draw, fixed_samples
from g2vlm.train.recipe import GEOMETRIC, Recipe
from g2vlm.train.run import run
from g2vlm.train.run_folder import (
    PICTURES,
    begin,
    check_free,
    keeping_warnings,
    note,
    note_warnings,
    noting_the_end,
    starts_of,
)


def launch(recipe: Recipe, out: Path, *, resume: bool = False) -> None:
    """Train a recipe into `out`. Raises ValueError if the folder holds a run and `resume` is not set."""
    check_free(out, recipe, resume=resume)
    hooks.check_installed(recipe.output)
    with ExitStack() as stack:
        warnings = stack.enter_context(keeping_warnings())
        run(recipe, out, hooks=partial(_hooks, recipe, out, stack, warnings))


def _hooks(
    recipe: Recipe,
    out: Path,
    stack: ExitStack,
    warnings: MemoryHandler,
    engine: parallel.Engine,
    packs: Packs,
    step: int,
) -> Sequence[Hook]:
    """The hooks of this process; what they hold open is closed with the stack. Only the first process shows anything."""
    description = parallel.describe(engine)
    engine.in_first(lambda: begin(out, recipe, step=step, device=engine.device, processes=engine.world))
    pictures = _pictures(recipe, out, engine, packs)
    log = partial(note, out)
    stack.enter_context(noting_the_end(out, engine.rank))
    if engine.rank:
        return [hooks.name_skipped(log), *pictures]
    note_warnings(out, warnings)
    screen = stack.enter_context(hooks.screen(step, recipe.steps))

    def say(text: str) -> None:
        screen.say(text)
        log(text)

    def show(row: Row) -> None:
        say(hooks.line(row, recipe.steps))

    output, starts = recipe.output, starts_of(out)
    sinks: list[hooks.Sink] = [partial(append_row, out / METRICS), show]
    if output.tensorboard:
        sinks.append(stack.enter_context(hooks.tensorboard(out / "tensorboard", step)))
    if output.wandb:
        identity = f"{recipe.name}-{''.join(filter(str.isalnum, starts[0]['time']))}"
        sinks.append(stack.enter_context(hooks.wandb(output.wandb, out.name, identity, out, asdict(recipe))))
    fresh = "starts" if len(starts) == 1 else "has no checkpoint yet and starts anew"
    begins = f"goes on after step {step}" if step else fresh
    for text in (f"{recipe.name} {begins}: {recipe.steps} steps into {out}", *description.splitlines()):
        say(text)
    return [hooks.name_skipped(say), screen.show, hooks.each_window(output.log_every, recipe.steps, sinks), *pictures]


def _pictures(recipe: Recipe, out: Path, engine: parallel.Engine, packs: Packs) -> list[Hook]:
    """The hook that draws, to be called in every process; none where pictures are off, or no geometry is learnt."""
    steps = recipe.output.pictures_every
    samples = fixed_samples(packs) if steps and recipe.strategy in GEOMETRIC else ()
    if not samples:
        return []
    return [hooks.every(steps, recipe.steps, lambda step: draw(engine, samples, out / PICTURES, step))]
