"""`g2vlm eval`: what a model is worth, by benchmarks and by what its layers know; each kind of evaluation is a command of its own."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperGroup

from g2vlm.cli.benchmarks import COMMANDS, benchmarks
from g2vlm.cli.options import Encoder
from g2vlm.cli.predict import MODEL, Device


class _BenchmarkFirst(TyperGroup):
    """`eval rooms` means `eval run rooms`: what names no command is a benchmark, or an option of `run`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if args == ["--list"]:
            args = ["benchmarks"]
        elif args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


evaluation = typer.Typer(
    cls=_BenchmarkFirst,
    help="Measure a model: g2vlm eval BENCH... --model M --data DIR, where BENCH is one of `g2vlm eval --list`.",
    no_args_is_help=True,
)
for command in COMMANDS:
    evaluation.command(no_args_is_help=command is not benchmarks)(command)

Descriptors = Literal["query_key", "rotated_query_key", "hidden"]
Tokens = Literal["geometric", "semantic"]

SCENES = "Scenes"


@evaluation.command()
def correspondence(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", help="Scenes with a scene.json, at or below it; procedural rooms unless given."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id; the embedded model unless given.", rich_help_panel=MODEL)
    ] = None,
    encoder: Encoder = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    tokens: Annotated[
        Tokens, typer.Option(help="Patches of views, or of pictures for the vision tower.", rich_help_panel=MODEL)
    ] = "geometric",
    descriptors: Annotated[
        Descriptors,
        typer.Option(
            help="Queries against keys (before rotation, or after it), or hidden states.", rich_help_panel=MODEL
        ),
    ] = "query_key",
    rooms: Annotated[int, typer.Option(min=1, help="Procedural rooms.", rich_help_panel=SCENES)] = 8,
    views: Annotated[int, typer.Option(min=2, help="Frames of each scene, at most.", rich_help_panel=SCENES)] = 8,
    stride: Annotated[
        int, typer.Option(min=1, help="Take every n-th frame of the scenes in FOLDER.", rich_help_panel=SCENES)
    ] = 1,
    resolution: Annotated[
        int | None,
        typer.Option(help="Pixels of a view's longer side.", show_default="the model's own", rich_help_panel=SCENES),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write correspondence.json and .png there.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files in a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON instead of the table.")] = False,
) -> None:
    """Which decoder layers find the same point in another view: PCK, confidence, robustness over time (docs/gasp.md)."""
    from g2vlm.cli.progress import progress
    from g2vlm.eval import correspondence as matching
    from g2vlm.export.atomic import publish, require_free

    if out is not None:
        require_free(out, overwrite=overwrite)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name one with scenes, or leave it out for procedural rooms")
    with progress(None) as steps:
        with steps.step("loading the model"):
            from g2vlm.loading import load
            from g2vlm.predictor import Predictor

            predictor = load(model, device=device, encoder=encoder)
            if not isinstance(predictor, Predictor):
                kind = predictor.host.model.config.model_type
                raise ValueError(  # noqa: TRY004, a folder and no type is wrong
                    f"{model} is a pathway on a stock {kind}, but these are the layers of a G2VLM; name one"
                )
        size = predictor.model.config.resolution if resolution is None else resolution
        patch = predictor.model.config.patch_size
        if folder is None:
            clips = matching.room_clips(rooms, num_views=views, resolution=size, patch=patch)
        else:
            clips = matching.scene_clips(
                folder, num_views=views, stride=stride, resolution=size, patch=patch, bad=_say_what_is_left_out
            )
        describe = matching.describing(predictor, descriptors=descriptors, tokens=tokens)
        report = matching.evaluate(describe, steps.each("searching", clips))
    record = {"model": predictor.source, "tokens": tokens, "descriptors": descriptors} | matching.as_record(report)
    text = json.dumps(record, indent=1)
    print(text if as_json else matching.table(report))
    if out is not None:
        title = f"{predictor.source}, {tokens} tokens, {descriptors}"
        files = (("correspondence.json", f"{text}\n".encode()), ("correspondence.png", matching.plot(report, title)))
        for path in publish(out, files):
            typer.echo(path, err=as_json)


def _say_what_is_left_out(reason: str) -> None:
    typer.echo(f"left out: {reason}", err=True)
