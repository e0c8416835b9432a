"""`g2vlm convert`: the same weights in another layout."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Folder or hub id of a model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; made if need be.")],
    to: Annotated[
        Literal["g2vlm", "official"],
        typer.Option(help="g2vlm: config.json and sharded safetensors; official: the layout of the released G2VLM."),
    ] = "g2vlm",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is not empty, with all that is in it.")
    ] = False,
) -> None:
    """Convert a model between our layout and the released one; there and back is the same bit for bit."""
    from g2vlm.hub import convert as convert_weights

    convert_weights(source, out, to=to, overwrite=overwrite)
    print(out)
