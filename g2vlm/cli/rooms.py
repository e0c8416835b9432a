"""`g2vlm rooms`: photos of a procedural room, with their truth, to try things on."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from g2vlm.records import Views

FIRST_TEST_SEED = 101_000_000  # no training of ours ever draws the rooms from here on


def rooms(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; made if need be.")],
    seed: Annotated[int, typer.Option(help="Which room; the default is one that no model was trained on.")] = (
        FIRST_TEST_SEED
    ),
    views: Annotated[int, typer.Option(help="Number of photos.")] = 4,
    height: Annotated[int, typer.Option(help="Pixels.")] = 336,
    width: Annotated[int, typer.Option(help="Pixels.")] = 448,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files in a folder that is not empty.")
    ] = False,
) -> None:
    """Photos of a procedural room and, in truth.npz, their depth (0: none), poses and intrinsics, in metres."""
    from g2vlm.data import scenes
    from g2vlm.export.atomic import publish, require_free

    require_free(out, overwrite=overwrite)
    room = scenes.rooms([seed], num_views=views, height=height, width=width)
    for path in publish(out, _files(room.views)):
        print(path)


def _files(views: "Views") -> Iterator[tuple[str, bytes]]:
    import numpy as np
    from PIL import Image

    truth = {name: getattr(views, name)[0].numpy() for name in ("depth", "mask", "poses", "intrinsics")}
    for i, image in enumerate((views.images[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        yield f"{i:02d}.png", buffer.getvalue()
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        depth=np.where(truth["mask"], truth["depth"], 0),
        world_from_camera=truth["poses"],
        intrinsics=truth["intrinsics"],
    )
    yield "truth.npz", buffer.getvalue()
