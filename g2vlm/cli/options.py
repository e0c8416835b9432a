"""Options that `g2vlm ask` and `g2vlm chat` share, and what they are to the package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from g2vlm.cli.predict import MODEL, Device, DType

if TYPE_CHECKING:
    from g2vlm.host_predictor import HostPredictor
    from g2vlm.predictor import Predictor

ANSWERS, HOSTS = "How it is answered", "Stock Qwen-VLs with a pathway"

Geometry = Annotated[
    Literal["on", "off", "blank", "shuffled"],
    typer.Option(help="What the geometric encoder sees; all but on are for comparison.", rich_help_panel=ANSWERS),
]
Reasoning = Annotated[
    Literal["geometry"] | None,
    typer.Option(help="Measure in the predicted geometry first, and show it.", rich_help_panel=ANSWERS),
]
MaxNewTokens = Annotated[int, typer.Option(help="Longest answer.", rich_help_panel=ANSWERS)]
Temperature = Annotated[
    float, typer.Option(help="Above 0 words are drawn, by --seed; 0 takes the likeliest.", rich_help_panel=ANSWERS)
]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw from the likeliest words that make up this share.", rich_help_panel=ANSWERS),
]
NumBeams = Annotated[
    int, typer.Option(help="Answers followed at once; the likeliest is kept.", rich_help_panel=ANSWERS)
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "--weights",
        help="Folder or hub id: a G2VLM, SpatialStack, VG-LLM; without it the embedded tiny model answers, offline.",
        rich_help_panel=MODEL,
    ),
]
Encoder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of a pathway's geometry encoder, where the model comes without: facebook/VGGT-1B.",
        rich_help_panel=MODEL,
    ),
]

FramesAtMost = Annotated[int, typer.Option(help="Frames of a video, evenly spaced.", rich_help_panel="Photos")]

Preprocessing = Annotated[
    Literal["whole", "crop"] | None,
    typer.Option(
        help="whole: pictures as they are, as SpatialStack on Qwen3.5 is evaluated. crop: 518 pixels wide first, as all were "
        "trained, and as those on Qwen2.5-VL are evaluated.",
        show_default="as the model is evaluated",
        rich_help_panel=HOSTS,
    ),
]
MinPixels = Annotated[
    int | None,
    typer.Option(help="Least pixels of a picture.", show_default="200704; crop: 12544", rich_help_panel=HOSTS),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="Most pixels of a picture.", show_default="1605632; crop: 451584", rich_help_panel=HOSTS),
]
Thinking = Annotated[
    Literal["on", "off"],
    typer.Option(help="Let a Qwen3.5 think before it answers; --json shows what.", rich_help_panel=HOSTS),
]


def decoding_of(max_new_tokens: int, temperature: float, top_p: float | None, num_beams: int) -> dict[str, Any]:
    """Arguments of transformers' `generate`; ValueError for what does not go together."""
    if temperature < 0:
        raise ValueError(f"--temperature {temperature}: it must be 0 or more")
    if num_beams < 1:
        raise ValueError(f"--num-beams {num_beams}: it must be 1 or more")
    if top_p is not None and not (temperature and 0 < top_p <= 1):
        raise ValueError(
            f"--top-p {top_p} with --temperature {temperature}: it must be above 0 and at most 1, and words must be drawn; "
            "give --temperature 1, too"
        )
    chosen: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    if temperature:
        chosen |= {"do_sample": True, "temperature": temperature}
    if top_p is not None:
        chosen["top_p"] = top_p
    return chosen if num_beams == 1 else chosen | {"num_beams": num_beams}


def loading_of(
    encoder: Path | None,
    preprocessing: Literal["whole", "crop"] | None,
    min_pixels: int | None,
    max_pixels: int | None,
    thinking: Literal["on", "off"],
) -> dict[str, Any]:
    """Arguments of `g2vlm.load` that were given."""
    given = {
        "encoder": encoder,
        "preprocessing": preprocessing,
        "min_pixels": min_pixels,
        "max_pixels": max_pixels,
        "thinking": True if thinking == "on" else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def load(model: str | None, device: Device, dtype: DType, options: dict[str, Any]) -> "Predictor | HostPredictor":
    from g2vlm.loading import load

    return load(model, device=device, dtype=dtype, **options)
