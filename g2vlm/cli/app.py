"""`g2vlm app`: a page to drop photos on, see the scene and ask about it."""

import signal
from typing import Annotated

import typer

from g2vlm.cli.options import Model, load
from g2vlm.cli.predict import MODEL, Device, DType

SERVED = "The page"


def app(
    model: Model = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    max_views: Annotated[
        int, typer.Option(help="Photos or frames that are used at once, evenly spaced.", rich_help_panel=SERVED)
    ] = 16,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.", rich_help_panel=SERVED)
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Where to listen.", show_default="from 7860", rich_help_panel=SERVED)
    ] = None,
) -> None:
    """A page: drop photos or a video, see depth, normals and the scene in 3-D, ask about it, take files away."""
    from g2vlm.app.page import launch
    from g2vlm.app.uploads import Limits
    from g2vlm.predictor import Predictor

    limits = Limits(views=max_views)
    predictor = load(model, device, dtype, {})
    if not isinstance(predictor, Predictor):
        raise ValueError(  # noqa: TRY004, the choice is wrong, not a type
            f"--model {model}: it reconstructs nothing, so there is no scene to show; use g2vlm chat"
        )
    for wish in (signal.SIGINT, signal.SIGTERM):  # both end the page in order, so that visitors' files are removed
        signal.signal(wish, signal.default_int_handler)
    launch(
        predictor,
        limits,
        host=host,
        port=port,
        started=lambda url: print(f"the page is at {url}; Ctrl-C ends it", flush=True),
    )
