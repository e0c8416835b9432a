"""`g2vlm ablate`: ways of bringing geometry into a model, trained and compared on equal terms."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def ablate(
    suite: Annotated[Literal["pathways"], typer.Option(help="What is compared.")] = "pathways",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of the comparison; runs/SUITE unless given."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each variant: seeds 0, 1, ...")] = 3,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of each run.", show_default="those of the recipe tiny_pathway")
    ] = None,
    questions: Annotated[
        int, typer.Option(min=12, help="About held-out rooms, to each model, with geometry on, blank and shuffled.")
    ] = 480,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="This variant alone; may be repeated.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Where every variant starts: folder or hub id of a model that speaks.")
    ] = "tiny",
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw rooms for training.")] = 1,
) -> None:
    """Compare geometry pathways (docs/pathways.md). Killed and started again, it goes on; results are the same."""
    import os

    # As in `g2vlm train`: threads that wait must sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from g2vlm.ablate import compare

    out = Path("runs") / suite if out is None else out
    compare(
        suite,
        out,
        seeds=seeds,
        steps=steps,
        questions=questions,
        only=only or (),
        weights=weights,
        workers=workers,
        say=typer.echo,
    )
    typer.echo((out / "table.md").read_text(), nl=False)
