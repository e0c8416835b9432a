"""`g2vlm view`: a saved reconstruction to walk around in, as one page, or as a turntable."""

from pathlib import Path
from typing import Annotated

import typer

POINTS, WRITTEN, SERVED = "Which points", "Instead of a viewer", "The viewer"


def view(
    reconstruction: Annotated[Path, typer.Argument(metavar="RECONSTRUCTION", help="Folder that g2vlm predict wrote.")],
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one page that opens without a network.", rich_help_panel=WRITTEN),
    ] = None,
    turntable: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the scene as it turns once around: .gif or .mp4.", rich_help_panel=WRITTEN
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Of the turntable, 12 a second.", rich_help_panel=WRITTEN)] = 60,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.", rich_help_panel=WRITTEN)
    ] = False,
    min_confidence: Annotated[
        float, typer.Option(help="Leave less certain points out; 0 to 1.", rich_help_panel=POINTS)
    ] = 0.0,
    max_points: Annotated[
        int, typer.Option(help="Beyond it a random subset is shown.", rich_help_panel=POINTS)
    ] = 200_000,
    keep_edges: Annotated[
        bool, typer.Option("--keep-edges", help="Keep points at depth edges.", rich_help_panel=POINTS)
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.", rich_help_panel=SERVED)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The next free one if it is taken.", rich_help_panel=SERVED)] = 8080,
) -> None:
    """Walk around in a saved reconstruction in the browser; measure in it, and see each camera's photo and depth."""
    from g2vlm.export.atomic import publish
    from g2vlm.export.cloud import Selection
    from g2vlm.export.load import load_reconstruction
    from g2vlm.view.turntable import check_turntable
    from g2vlm.view.turntable import turntable as turning

    selection = Selection(max_points, min_confidence, keep_edges)
    if turntable is not None:
        check_turntable(turntable, frames)
    for file in (html, turntable):
        if file is not None and file.exists() and not overwrite:
            raise ValueError(f"{file} is there already; choose another name or give --overwrite")
    saved = load_reconstruction(reconstruction)
    written = []
    if html is not None:
        from g2vlm.view.viewer import page

        written += publish(html.parent, [(html.name, page(saved, selection).encode())])
    if turntable is not None:
        written += publish(
            turntable.parent, [(turntable.name, turning(saved, selection, turntable, num_frames=frames))]
        )
    for path in written:
        print(path)
    if not written:
        from g2vlm.view.viewer import serve

        with serve(saved, selection, host=host, port=port) as viewer:
            print(f"the viewer is at {viewer.address}; Ctrl-C ends it", flush=True)
            viewer.wait()
