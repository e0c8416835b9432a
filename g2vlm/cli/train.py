"""`g2vlm train`: a recipe becomes a trained model; `train plot` draws its curves, `train recipes` lists what there is."""

import itertools
import os
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup


class _RecipeFirst(TyperGroup):
    """`train smoke` means `train run smoke`: what names no command is a recipe, or an option of `run`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["run", *(args or ["--help"])]
        return super().parse_args(ctx, args)


train = typer.Typer(cls=_RecipeFirst, help="Train a model by a recipe; draw the curves of runs.")


@train.command(no_args_is_help=True, epilog="Also: g2vlm train recipes, g2vlm train plot RUN... (each has --help).")
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME unless given.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a field, as in optimiser.lr=1e-4; may be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in OUT.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe and leave.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print parameters, tokens, FLOPs, memory and time, and leave.")
    ] = False,
    gpu: Annotated[str | None, typer.Option(help="With --plan: the GPU to plan for.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="With --plan: so many GPUs.")] = None,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
) -> None:
    """Train a model: g2vlm train RECIPE. Under torchrun and its like: python -m g2vlm.train RECIPE.

    A run folder explains itself: recipe, environment, log, metrics, checkpoints, pictures.
    """
    # local_rank: the launcher of DeepSpeed hands it over; the environment says the same.
    # On a CPU, threads that wait must sleep: they share the cores with the processes that prepare the data.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from g2vlm.train.recipe import find_recipe
    from g2vlm.train.typed import to_yaml

    found = find_recipe(recipe, settings or ())
    if show:
        print(to_yaml(found), end="")
        return
    if plan:
        from g2vlm.train.plan import plan_of, report

        print(report(plan_of(found, gpu=gpu, world=processes)))
        return
    if gpu is not None or processes is not None:
        raise ValueError("--gpu and --processes belong to --plan; a run takes the processes its launcher starts")
    from g2vlm.train.launch import launch

    launch(found, Path("runs") / found.name if out is None else out, resume=resume)


@train.command()
def recipes() -> None:
    """Names of the shipped recipes, and what each is for."""
    from g2vlm.train.recipe import SHIPPED, recipe_names

    names = recipe_names()
    for name in names:
        print(f"{name:<{max(map(len, names))}}  {_purpose((SHIPPED / f'{name}.yaml').read_text())}")


def _purpose(recipe: str) -> str:
    """The first sentence of the comment that a recipe file begins with."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), recipe.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment).split(". ")[0].rstrip(".")


@train.command(no_args_is_help=True)
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or metrics.jsonl files.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("curves.png"),
) -> None:
    """Draw losses, learning rate, gradient norm and speed of runs over their steps."""
    from g2vlm.train.plot import plot

    print(plot(runs, out))
