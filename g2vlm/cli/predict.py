"""`g2vlm predict`: from photos to depth, cameras and a point cloud."""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from g2vlm.pictures import Photo
    from g2vlm.predictor import Answering
    from g2vlm.records import Reconstruction

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

MODEL, PHOTOS, POINTS = "Model", "Photos", "What is written"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Photos of one scene: files, folders or globs. The first sets the frame."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; made if need be.")],
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
        int, typer.Option(help="Use at most so many photos, evenly spaced.", rich_help_panel=PHOTOS)
    ] = 32,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the side that sets the scale of a view.",
            show_default="the model's own",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Any of these, separated by commas.", rich_help_panel=POINTS)
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
    """Depth, normals, confidence, cameras and a coloured point cloud from photos of one scene."""
    started = perf_counter()
    from g2vlm.cli.progress import progress
    from g2vlm.export.atomic import require_free
    from g2vlm.export.cloud import Selection
    from g2vlm.export.save import check_formats, save
    from g2vlm.pictures import evenly_spaced, find_pictures, read_photo

    wanted = check_formats([name.strip() for name in formats.split(",")])
    Selection(max_points, min_confidence, keep_edges, seed)  # refuses wrong values before the long work
    require_free(out, overwrite=overwrite)
    found = find_pictures(inputs)
    paths = evenly_spaced(found, max_views)
    _say_what_is_used(len(found), len(paths))

    with progress(len(paths) + 3) as steps:
        photos = [read_photo(path) for path in steps.each("reading", paths)]
        with steps.step("loading the model"):
            predictor = _load(model, device, dtype)
        with steps.step("reconstructing"):
            reconstruction = _reconstruct(predictor, photos, resolution, seed)
        with steps.step("writing"):
            written = save(
                reconstruction,
                out,
                wanted,
                max_points=max_points,
                min_confidence=min_confidence,
                keep_edges=keep_edges,
                seed=seed,
            )
    _report(reconstruction, out, written, steps.seconds | {"total": perf_counter() - started}, as_json=as_json)


def _load(model: str | None, device: Device, dtype: DType) -> "Answering":
    from g2vlm.loading import load

    return load(model, device=device, dtype=dtype)


def _reconstruct(
    predictor: "Answering", photos: "Sequence[Photo]", resolution: int | None, seed: int
) -> "Reconstruction":
    import torch

    try:
        return predictor.reconstruct(photos, resolution=resolution, seed=seed)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{len(photos)} views do not fit into the device's memory; lower --max-views or --resolution"
        ) from error


def _say_what_is_used(num_found: int, num_used: int) -> None:
    if num_used < num_found:
        _note(f"using {num_used} of {num_found} pictures, evenly spaced; --max-views {num_found} uses all")
    if num_used == 1:
        _note("one photo gives depth and points, but no camera motion; more photos of the scene give more")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _report(
    reconstruction: "Reconstruction", out: Path, written: list[Path], seconds: dict[str, float], *, as_json: bool
) -> None:
    if as_json:
        summary = {
            "folder": str(out),
            "files": [str(path) for path in written],
            "views": list(reconstruction.names),
            "scale": reconstruction.scale,
            "model": reconstruction.provenance.model,
            "checkpoint_sha256": reconstruction.provenance.checkpoint_sha256,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        }
        print(json.dumps(summary, ensure_ascii=False))
        return
    for path in written:
        print(path)
    timings = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    print(f"{len(reconstruction.names)} views, {reconstruction.scale.replace('_', '-')}; {timings}")
