"""`g2vlm export`: a saved reconstruction in the formats of other programs."""

import json
from pathlib import Path
from typing import Annotated

import typer

FORMATS_HELP = (
    "ply, glb, laz, usd, colmap, nerfstudio, npz, depth_png, depth_tiff, normal_png, normal_tiff, tum, overview, json; "
    "repeat it, or separate by commas."
)
POINTS, SIZE = "Which points", "Size of the maps"


def export(
    reconstruction: Annotated[Path, typer.Argument(metavar="RECONSTRUCTION", help="Folder that g2vlm predict wrote.")],
    to: Annotated[list[str], typer.Option("--to", metavar="FORMAT", help=FORMATS_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the files; made if need be.")],
    text: Annotated[bool, typer.Option("--ascii", help="PLY, COLMAP and USD as text, not binary.")] = False,
    mesh: Annotated[bool, typer.Option("--mesh", help="Surfaces instead of points in GLB and USD.")] = False,
    min_confidence: Annotated[
        float, typer.Option(help="Leave less certain points out; 0 to 1.", rich_help_panel=POINTS)
    ] = 0.0,
    max_points: Annotated[
        int | None,
        typer.Option(
            help="Beyond it a random subset is kept; of points, not of surfaces.",
            show_default="all",
            rich_help_panel=POINTS,
        ),
    ] = None,
    keep_edges: Annotated[
        bool, typer.Option("--keep-edges", help="Keep points at depth edges.", rich_help_panel=POINTS)
    ] = False,
    seed: Annotated[int, typer.Option(help="Repeats the choice of points.", rich_help_panel=POINTS)] = 0,
    original_resolution: Annotated[
        bool,
        typer.Option("--original-resolution", help="A value for each pixel of the photos.", rich_help_panel=SIZE),
    ] = False,
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the original photos, for their colours at original resolution.",
            rich_help_panel=SIZE,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Write a saved reconstruction for other programs; it stays as it is."""
    from g2vlm.export.atomic import require_free
    from g2vlm.export.cloud import Selection
    from g2vlm.export.load import load_reconstruction
    from g2vlm.export.resolution import at_original_resolution
    from g2vlm.export.save import check_formats, save
    from g2vlm.pictures import read_photo

    wanted = check_formats([name.strip() for names in to for name in names.split(",")])
    Selection(max_points, min_confidence, keep_edges, seed)
    if photos is not None and not original_resolution:
        raise ValueError(f"--photos {photos} gives colours at original resolution; give --original-resolution, too")
    if out.resolve() == reconstruction.resolve():
        raise ValueError(f"{out} is the reconstruction itself; choose another folder to write to")
    require_free(out, overwrite=overwrite)
    saved = load_reconstruction(reconstruction)
    if original_resolution:
        originals = None if photos is None else [read_photo(photos / Path(name).name) for name in saved.names]
        saved = at_original_resolution(saved, originals)
    written = save(
        saved,
        out,
        wanted,
        max_points=max_points,
        min_confidence=min_confidence,
        keep_edges=keep_edges,
        seed=seed,
        text=text,
        mesh=mesh,
    )
    if as_json:
        summary = {"folder": str(out), "files": [str(path) for path in written], "scale": saved.scale}
        print(json.dumps(summary, ensure_ascii=False))
        return
    for path in written:
        print(path)
