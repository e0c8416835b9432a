"""`g2vlm chat`: a conversation about photos, on the terminal or through a pipe."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2vlm.cli.ask import note
from g2vlm.cli.options import (
    Encoder,
    Geometry,
    MaxNewTokens,
    MaxPixels,
    MinPixels,
    Model,
    NumBeams,
    Preprocessing,
    Reasoning,
    Temperature,
    Thinking,
    TopP,
    decoding_of,
    load,
    loading_of,
)
from g2vlm.cli.predict import MODEL, PHOTOS, Device, DType
from g2vlm.errors import raised_here

if TYPE_CHECKING:
    from g2vlm.predictor import Answering
    from g2vlm.records import Answer

COMMANDS = "/image PATH shows more photos, /reset begins anew with the first ones, /quit ends"


def chat(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Photos to begin with: files, folders or globs.", show_default=False),
    ] = None,
    geometry: Geometry = "on",
    reasoning: Reasoning = None,
    max_new_tokens: MaxNewTokens = 128,
    temperature: Temperature = 0.0,
    top_p: TopP = None,
    num_beams: NumBeams = 1,
    model: Model = None,
    encoder: Encoder = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the side that sets the scale of a view.",
            show_default="the model's own",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    preprocessing: Preprocessing = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    thinking: Thinking = "off",
    seed: Annotated[int, typer.Option(help="Of the shuffle, and of words that are drawn.", rich_help_panel=MODEL)] = 0,
) -> None:
    """Talk about photos of one scene; /image PATH shows more of them, /reset begins anew, /quit ends."""
    from g2vlm.pictures import find_pictures

    first = find_pictures(inputs) if inputs else []
    options = {
        "geometry": geometry,
        "reasoning": reasoning,
        "resolution": resolution,
        "seed": seed,
        **decoding_of(max_new_tokens, temperature, top_p, num_beams),
    }
    reading = loading_of(encoder, preprocessing, min_pixels, max_pixels, thinking)
    talk = Talk(load(model, device, dtype, reading), first, options)
    note(f"{photos(len(first))}; {COMMANDS}")
    for line in _lines():
        if line == "/quit":
            return
        try:
            _do(talk, line)
        except ValueError as error:
            if not raised_here(error.__traceback__):
                raise
            print(f"error: {error}", file=sys.stderr)


@dataclass
class Talk:
    """A chat so far. first: photos it begins with. waiting: photos that the next question shows."""

    predictor: "Answering"
    first: list[Path]
    options: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[Path] = field(default_factory=list)

    def __post_init__(self):
        self.reset()

    def reset(self) -> None:
        self.messages, self.waiting = [], list(self.first)

    def ask(self, question: str) -> "Answer":
        """The answer; a question that cannot be answered leaves the chat as it was."""
        images = [{"type": "image", "image": path} for path in self.waiting]
        asked = {"role": "user", "content": [*images, {"type": "text", "text": question}]}
        answer = self.predictor.answer(messages=[*self.messages, asked], **self.options)
        self.messages += [asked, {"role": "assistant", "content": answer.text}]
        self.waiting = []
        return answer


def photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"


def _lines() -> Iterator[str]:
    """What the user types, line by line; blank lines are passed over."""
    is_terminal = sys.stdin.isatty()
    while True:
        if is_terminal:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _do(talk: Talk, line: str) -> None:
    from g2vlm.pictures import find_pictures, read_photo

    command, _, argument = line.partition(" ")
    if command == "/reset":
        talk.reset()
        note("begun anew")
    elif command == "/image":
        if not argument.strip():
            raise ValueError("/image needs a file, folder or glob, as in /image kitchen.jpg")
        paths = find_pictures([argument.strip()])
        for path in paths:
            read_photo(path)  # refuses a damaged one here, and not with the next question
        talk.waiting += paths
        note(f"the next question shows {photos(len(paths))} more")
    elif command.startswith("/"):
        raise ValueError(f"there is no {command}; {COMMANDS}")
    else:
        answer = talk.ask(line)
        for statement in answer.evidence:
            print(f"measured: {statement.text}")
        print(answer.text, flush=True)
