"""`g2vlm predict`: from photos to depth, cameras and a point cloud."""

import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from g2vlm.cli.placing import KnownOption, MetricOption, WorldOption, placing
from g2vlm.cli.scenes import predict_scenes
from g2vlm.cli.seeing import CURE, CURE_OF_WINDOWS, Asked, Seeing, note, require_read

if TYPE_CHECKING:
    from g2vlm.cli.seeing import Result
    from g2vlm.frames import Frames

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

MODEL, PHOTOS, MANY, POINTS = "Model", "Photos", "More photos than can be seen at once", "What is written"
SCENES = "Many scenes"

MAX_VIEWS = 32


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Photos of one scene: files, folders, globs, videos; - reads a list from stdin. The first sets the frame.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; made if need be.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of a model; without it the embedded tiny model runs, offline.", rich_help_panel=MODEL
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    seed: Annotated[
        int, typer.Option(help="Repeats a run: of the model, and of the choice of points.", rich_help_panel=MODEL)
    ] = 0,
    max_views: Annotated[
        int, typer.Option(help="See at most so many photos at once, evenly spaced.", rich_help_panel=PHOTOS)
    ] = MAX_VIEWS,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the side that sets the scale of a view.",
            show_default="the model's own",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames of a video for each second of it.", rich_help_panel=PHOTOS)
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a video or folder in all, evenly spaced.", rich_help_panel=PHOTOS)
    ] = None,
    start: Annotated[float, typer.Option(help="Seconds of a video to leave out.", rich_help_panel=PHOTOS)] = 0.0,
    end: Annotated[float | None, typer.Option(help="Second of a video to stop at.", rich_help_panel=PHOTOS)] = None,
    sharpest: Annotated[
        bool, typer.Option("--sharpest", help="Of neighbouring frames take the sharpest.", rich_help_panel=PHOTOS)
    ] = False,
    window: Annotated[
        int | None,
        typer.Option(help="See so many photos at a time, and join all of them; 16 is good.", rich_help_panel=MANY),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Photos that windows share.", show_default="a quarter of the window", rich_help_panel=MANY),
    ] = None,
    loops: Annotated[
        bool, typer.Option(help="Find places that are seen again, and make them agree.", rich_help_panel=MANY)
    ] = True,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what memory it would take, and leave.", rich_help_panel=MANY)
    ] = False,
    scenes: Annotated[
        bool,
        typer.Option(
            "--scenes",
            help="INPUT is a folder whose folders and videos are a scene each; results that are there already are left alone.",
            rich_help_panel=SCENES,
        ),
    ] = False,
    ray: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="WORKERS",
            help="Share scenes out over a Ray cluster (RAY_ADDRESS, else this machine), to at most so many workers.",
            rich_help_panel=SCENES,
        ),
    ] = None,
    known: KnownOption = None,
    metric: MetricOption = None,
    world: WorldOption = None,
    formats: Annotated[
        str, typer.Option(help="Formats of g2vlm export, separated by commas.", rich_help_panel=POINTS)
    ] = "ply,npz,depth_png,overview,json",
    max_points: Annotated[
        int, typer.Option(help="Points of the PLY; beyond it a random subset is kept.", rich_help_panel=POINTS)
    ] = 1_000_000,
    min_confidence: Annotated[
        float, typer.Option(help="Leave less certain points out of the PLY; 0 to 1.", rich_help_panel=POINTS)
    ] = 0.0,
    keep_edges: Annotated[
        bool, typer.Option("--keep-edges", help="Keep points at depth edges in the PLY.", rich_help_panel=POINTS)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Depth, normals, confidence, cameras and a coloured point cloud from photos of one scene, or of many."""
    started = perf_counter()
    from g2vlm.cli.progress import progress
    from g2vlm.export.cloud import Selection
    from g2vlm.export.save import check_formats
    from g2vlm.video import Cut

    wanted = check_formats([name.strip() for name in formats.split(",")])
    Selection(max_points, min_confidence, keep_edges, seed)  # refuses wrong values before the long work
    if out is None and not plan:
        raise ValueError("no folder for the results was given; give --out DIR")
    if window is None and overlap is not None:
        raise ValueError(f"--overlap {overlap} is of windows; give --window, too")
    if ray is not None and not scenes:
        raise ValueError(f"--ray {ray} is of many scenes; give --scenes, too")
    asked = Asked(
        Seeing(model, device, dtype, resolution, seed, window, overlap, loops),
        Cut(fps, frames, start, end, sharpest),
        max_views,
        placing(known, metric or (), world),
        wanted,
        {"max_points": max_points, "min_confidence": min_confidence, "keep_edges": keep_edges, "seed": seed},
    )
    if scenes:
        predict_scenes(asked, inputs, out, plan=plan, ray_workers=ray, overwrite=overwrite, as_json=as_json)
        return
    shots = asked.shots(inputs)
    before = asked.choice(shots)
    for line in before:
        note(line)
    if plan:
        _plan(asked.seeing, shots)
        return
    assert out is not None
    asked.prepare(out, overwrite=overwrite)
    with progress(len(shots) + 3) as steps:
        result = asked.reconstruct(shots, out, steps)
    for line in result.notes:
        note(line)
    seconds = steps.seconds | {"total": perf_counter() - started}
    _report(result, out, seconds, (*before, *result.notes), as_json=as_json)


def _plan(seeing: Seeing, shots: "Frames") -> None:
    """Print what memory a run would take; exit code 2 if it would be refused."""
    from g2vlm.memory import memory_plan

    first = next(iter(shots), None)
    if first is None:
        require_read(shots, 0, 1)
        return
    made = memory_plan(
        seeing.model,
        first.size,
        len(shots) if seeing.window is None else min(seeing.window, len(shots)),
        resolution=seeing.resolution,
        device=seeing.device,
        dtype=seeing.dtype,
        keeps_all=seeing.window is None,
    )
    if made is None:
        raise ValueError(
            f"{seeing.model} is a host of a pathway, which reconstructs nothing; --plan is of reconstructions"
        )
    for line in made.lines():
        print(line)
    made.require(CURE if seeing.window is None else CURE_OF_WINDOWS)


def _report(result: "Result", out: Path, seconds: dict[str, float], notes: tuple[str, ...], *, as_json: bool) -> None:
    placed = result.placed
    reconstruction = placed.reconstruction
    if as_json:
        summary = {
            "folder": str(out),
            "files": [str(path) for path in result.files],
            "views": list(reconstruction.names),
            "scale": reconstruction.scale,
            "world": reconstruction.world,
            **placed.record,
            "model": reconstruction.provenance.model,
            "checkpoint_sha256": reconstruction.provenance.checkpoint_sha256,
            "notes": notes,
            **({} if result.sequence is None else {"sequence": result.sequence}),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        }
        print(json.dumps(summary, ensure_ascii=False))
        return
    for text in (*result.files, *placed.lines):
        print(text)
    timings = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    print(f"{len(reconstruction.names)} views, {reconstruction.scale.replace('_', '-')}; {timings}")
